/*
 * choices_test.c - completions with n > 1 from a system of two engine cores: indexes, texts, seeds,
 * stop strings, usage, routing, counts, and what happens when the client goes away.
 *
 * A seeded choice has its own oracle: a request with n = 1 and the seed moved by its index.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper_http.h"
#include "helper_system.h"

enum {
    CHOICES_MAX = 128,
    TEXT_BYTES = 128
};

static struct system served;

struct text {
    char text[TEXT_BYTES];
    char finish[16];
    char stop_reason[16];
    uint32_t roles;
};

/* An answer's choices by index. */
struct choices {
    struct text of[CHOICES_MAX];
    uint32_t count; /* highest index + 1 */
    uint32_t finished;
    int64_t prompt_tokens;
    int64_t completion_tokens;
    uint32_t usages;
    bool done;
};

static int start_system(void **state)
{
    (void)state;
    struct topology t = e2e_topology(2, 2);
    t.host.engine_step_ns = 2000000; /* so that a client can go away in the middle */
    e2e_start(&t, &served);
    return 0;
}

static int stop_system(void **state)
{
    (void)state;
    assert_false(system_failed(&served));
    assert_int_equal(served.warnings_count, 0);
    e2e_stop(&served);
    return 0;
}

static struct json_object *member(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    (void)json_object_object_get_ex(object, name, &value);
    return value;
}

static void take_text(struct text *t, struct json_object *value)
{
    if (value != NULL) {
        size_t used = strlen(t->text);
        assert_true(used + strlen(json_object_get_string(value)) < sizeof t->text);
        (void)snprintf(t->text + used, sizeof t->text - used, "%s", json_object_get_string(value));
    }
}

static void take_choice(struct choices *c, struct json_object *choice)
{
    int index = json_object_get_int(member(choice, "index"));
    assert_in_range(index, 0, CHOICES_MAX - 1);
    struct text *t = &c->of[index];
    struct json_object *delta = member(choice, "delta");
    struct json_object *finish = member(choice, "finish_reason");
    struct json_object *stop = member(choice, "stop_reason");
    delta = delta != NULL ? delta : member(choice, "message");
    c->count = c->count > (uint32_t)index ? c->count : (uint32_t)index + 1;
    take_text(t, member(choice, "text"));
    if (delta != NULL) {
        take_text(t, member(delta, "content"));
        t->roles += member(delta, "role") != NULL;
    }
    if (finish != NULL) {
        assert_string_equal(t->finish, "");
        (void)snprintf(t->finish, sizeof t->finish, "%s", json_object_get_string(finish));
        c->finished++;
    }
    if (stop != NULL) {
        (void)snprintf(t->stop_reason, sizeof t->stop_reason, "%s", json_object_get_string(stop));
    }
}

static void take_object(struct choices *c, const char *json)
{
    struct json_object *root = json_tokener_parse(json);
    assert_non_null(root);
    struct json_object *list = member(root, "choices");
    struct json_object *usage = member(root, "usage");
    assert_non_null(list);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        take_choice(c, json_object_array_get_idx(list, i));
    }
    if (usage != NULL) {
        c->usages++;
        c->prompt_tokens = json_object_get_int64(member(usage, "prompt_tokens"));
        c->completion_tokens = json_object_get_int64(member(usage, "completion_tokens"));
        assert_int_equal(json_object_get_int64(member(usage, "total_tokens")),
                         c->prompt_tokens + c->completion_tokens);
    }
    (void)json_object_put(root);
}

static void take_events(struct choices *c, char *body)
{
    char *rest = NULL;
    for (char *line = strtok_r(body, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        assert_memory_equal(line, "data: ", 6);
        assert_false(c->done);
        if (strcmp(line + 6, "[DONE]") == 0) {
            c->done = true;
        } else {
            take_object(c, line + 6);
        }
    }
    assert_true(c->done);
}

static void ask(const char *path, const char *json, struct choices *c)
{
    struct answer a = http_post(served.port, path, json);
    memset(c, 0, sizeof *c);
    if (a.status != 200) {
        fail_msg("%d: %s", a.status, a.body);
    }
    if (strstr(answer_header(&a, "Content-Type"), "text/event-stream") != NULL) {
        take_events(c, a.body);
    } else {
        take_object(c, a.body);
    }
    answer_free(&a);
}

static void complete(const char *json, struct choices *c)
{
    ask("/v1/completions", json, c);
}

static void choices_differ_and_usage_is_their_sum(void **state)
{
    (void)state;
    static struct choices c;
    complete("{\"prompt\":\"hello\",\"n\":3,\"max_tokens\":20,\"ignore_eos\":true}", &c);
    assert_int_equal(c.count, 3);
    assert_int_equal(c.finished, 3);
    assert_int_equal(c.prompt_tokens, 5);
    assert_int_equal(c.completion_tokens, 60);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(strlen(c.of[i].text), 20);
        assert_string_equal(c.of[i].finish, "length");
        assert_string_not_equal(c.of[i].text, c.of[(i + 1) % 3].text);
    }
}

static void seeds_move_by_the_index(void **state)
{
    (void)state;
    static struct choices all;
    static struct choices one;
    char json[256];
    complete("{\"prompt\":\"seed\",\"n\":4,\"seed\":41,\"max_tokens\":24,\"ignore_eos\":true}",
             &all);
    assert_int_equal(all.count, 4);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"seed\",\"seed\":%d,\"max_tokens\":24,\"ignore_eos\":true}",
                       41 + i);
        complete(json, &one);
        assert_int_equal(one.count, 1);
        assert_string_equal(one.of[0].text, all.of[i].text);
    }
}

static void streams_say_the_same(void **state)
{
    (void)state;
    static struct choices whole;
    static struct choices c;
    static const char body[] = "{\"prompt\":\"stream\",\"n\":5,\"seed\":7,\"max_tokens\":30,"
                               "\"ignore_eos\":true%s}";
    char json[256];
    (void)snprintf(json, sizeof json, body, "");
    complete(json, &whole);
    (void)snprintf(json, sizeof json, body, ",\"stream\":true");
    complete(json, &c);
    assert_int_equal(c.usages, 0);
    (void)snprintf(json, sizeof json, body,
                   ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    complete(json, &c);
    assert_int_equal(c.usages, 1);
    assert_int_equal(c.prompt_tokens, 6);
    assert_int_equal(c.completion_tokens, 150);
    assert_int_equal(c.count, 5);
    assert_int_equal(c.finished, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(c.of[i].text, whole.of[i].text);
        assert_string_equal(c.of[i].finish, "length");
    }
}

static void chats_have_choices_too(void **state)
{
    (void)state;
    static struct choices whole;
    static struct choices c;
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"n\":2,"
                               "\"seed\":1,\"max_tokens\":9,\"ignore_eos\":true%s}";
    char json[256];
    (void)snprintf(json, sizeof json, body, "");
    ask("/v1/chat/completions", json, &whole);
    (void)snprintf(json, sizeof json, body, ",\"stream\":true");
    ask("/v1/chat/completions", json, &c);
    assert_int_equal(c.count, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strlen(whole.of[i].text), 9);
        assert_string_equal(c.of[i].text, whole.of[i].text);
        assert_int_equal(c.of[i].roles, 1);
        assert_int_equal(whole.of[i].roles, 1);
    }
}

/* A stop string ends the choices in whose text it occurs, each where it first does. */
static void stop_strings_end_each_choice_by_itself(void **state)
{
    (void)state;
    static struct choices full;
    static struct choices c;
    char json[256];
    complete("{\"prompt\":\"stop\",\"n\":4,\"seed\":3,\"max_tokens\":60,\"ignore_eos\":true}",
             &full);
    char letter = 'A';
    while (letter < 'Z' && strchr(full.of[2].text, letter) == NULL) {
        letter++;
    }
    int64_t tokens = 0;
    for (int variant = 0; variant < 2; variant++) {
        tokens = 0;
        (void)snprintf(json, sizeof json,
                       "{\"prompt\":\"stop\",\"n\":4,\"seed\":3,\"max_tokens\":60,"
                       "\"ignore_eos\":true,\"stop\":\"%c\",\"stream\":%s,\"stream_options\":%s}",
                       letter, variant == 1 ? "true" : "false",
                       variant == 1 ? "{\"include_usage\":true}" : "null");
        complete(json, &c);
        for (int i = 0; i < 4; i++) {
            const char *at = strchr(full.of[i].text, letter);
            size_t bytes = at != NULL ? (size_t)(at - full.of[i].text) : 60;
            assert_int_equal(strlen(c.of[i].text), bytes);
            assert_memory_equal(c.of[i].text, full.of[i].text, bytes);
            assert_string_equal(c.of[i].finish, at != NULL ? "stop" : "length");
            assert_int_equal(c.of[i].stop_reason[0], at != NULL ? letter : '\0');
            tokens += (int64_t)bytes + (at != NULL ? 1 : 0);
        }
        assert_int_equal(c.completion_tokens, tokens);
    }
}

static void choices_are_routed_one_by_one(void **state)
{
    (void)state;
    static struct choices c;
    uint64_t before[2];
    for (uint32_t e = 0; e < 2; e++) {
        before[e] = ledger_get(&e2e_thread(&served, THREAD_ENGINE_MAIN, e, 0)->requests_count);
    }
    complete("{\"prompt\":\"spread\",\"n\":10,\"max_tokens\":20,\"ignore_eos\":true}", &c);
    assert_int_equal(c.count, 10);
    for (uint32_t e = 0; e < 2; e++) {
        uint64_t now = ledger_get(&e2e_thread(&served, THREAD_ENGINE_MAIN, e, 0)->requests_count);
        assert_in_range(now - before[e], 4, 6);
    }
}

static double metric(const char *name, const char *label)
{
    struct answer a = http_get(served.port, "/metrics");
    double value = metric_sum(a.body, name, label);
    answer_free(&a);
    return value;
}

static void metrics_count_choices_and_requests(void **state)
{
    (void)state;
    static struct choices c;
    static const char n[] = "vllm:request_params_n_count";
    static const char n_sum[] = "vllm:request_params_n_sum";
    static const char success[] = "vllm:request_success_total";
    static const char longest[] = "vllm:request_max_num_generation_tokens_sum";
    double requests = metric(n, "");
    double sum = metric(n_sum, "");
    double ends = metric(success, "");
    double tokens = metric(longest, "");
    complete("{\"prompt\":\"count\",\"n\":128,\"max_tokens\":3,\"ignore_eos\":true}", &c);
    assert_int_equal(c.count, 128);
    assert_int_equal(c.finished, 128);
    assert_int_equal(metric(n, "") - requests, 1);
    assert_int_equal(metric(n_sum, "") - sum, 128);
    assert_int_equal(metric(success, "") - ends, 128);
    assert_int_equal(metric(longest, "") - tokens, 3);
}

static bool all_idle(void *ctx)
{
    (void)ctx;
    uint64_t busy = 0;
    for (uint32_t e = 0; e < 2; e++) {
        const struct ledger_thread *t = e2e_thread(&served, THREAD_ENGINE_MAIN, e, 0);
        busy += ledger_get(&t->running_now) + ledger_get(&t->waiting_now);
    }
    return busy == 0;
}

static bool some_busy(void *ctx)
{
    return !all_idle(ctx);
}

/* Every choice of a client that went away is aborted. */
static void a_gone_client_ends_all_its_choices(void **state)
{
    (void)state;
    double before = metric("vllm:request_success_total", "");
    uint64_t tokens = E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens);
    struct link l;
    char *text = http_request_text("/v1/completions", NULL,
                                   "{\"prompt\":\"gone\",\"n\":100,\"max_tokens\":500,"
                                   "\"ignore_eos\":true,\"stream\":true}");
    assert_true(link_open(&l, served.port));
    assert_true(link_text(&l, text));
    assert_true(link_more(&l, HANG_MS));
    assert_true(e2e_wait(some_busy, NULL, HANG_MS));
    link_close(&l);
    free(text);
    assert_true(e2e_wait(all_idle, NULL, HANG_MS));
    /* Of 50,000 that were asked for. */
    tokens = E2E_SUM(&served, THREAD_ENGINE_MAIN, output_tokens) - tokens;
    assert_in_range(tokens, 1, 25000);
    assert_int_equal(metric("vllm:request_success_total", "") - before, 0);
    static struct choices c;
    complete("{\"prompt\":\"after\",\"n\":2,\"max_tokens\":5,\"ignore_eos\":true}", &c);
    assert_int_equal(c.finished, 2);
}

int main(void)
{
    e2e_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_differ_and_usage_is_their_sum),
        cmocka_unit_test(seeds_move_by_the_index),
        cmocka_unit_test(streams_say_the_same),
        cmocka_unit_test(chats_have_choices_too),
        cmocka_unit_test(stop_strings_end_each_choice_by_itself),
        cmocka_unit_test(choices_are_routed_one_by_one),
        cmocka_unit_test(metrics_count_choices_and_requests),
        cmocka_unit_test(a_gone_client_ends_all_its_choices),
    };
    return e2e_end(cmocka_run_group_tests(tests, start_system, stop_system));
}
