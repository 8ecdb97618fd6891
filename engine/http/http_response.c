/*
 * http_response.c - writes whole responses: status line, headers and a body of known length. Driven
 * by the API server.
 */
#include "engine/http/http_parser.h"

const char *http_status_phrase(int http_status)
{
    static const struct {
        int http_status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Payload Too Large"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        if (phrases[i].http_status == http_status) {
            return phrases[i].phrase;
        }
    }
    return "Unknown";
}

void http_write_response(struct http_buffer *out, const struct http_response *response)
{
    http_buffer_text(out, "HTTP/1.1 ");
    http_buffer_i64(out, response->http_status);
    http_buffer_text(out, " ");
    http_buffer_text(out, http_status_phrase(response->http_status));
    http_buffer_text(out, "\r\nContent-Type: ");
    http_buffer_text(out,
                     response->content_type == NULL ? "application/json" : response->content_type);
    http_buffer_text(out, "\r\nContent-Length: ");
    http_buffer_u64(out, response->body_bytes);
    if (response->api_server != HTTP_API_SERVER_NONE) {
        http_buffer_text(out, "\r\nX-Api-Server: ");
        http_buffer_i64(out, response->api_server);
    }
    http_buffer_text(out, response->keep_alive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
    http_buffer_append(out, response->body, response->body_bytes);
}
