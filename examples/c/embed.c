/*
 * embed: compares the meaning of texts, by the enclave's embeddings.
 *
 *     embed [--url URL] [--policy FILE] [--token TOKEN] [TEXT…]
 *     embed "the cat sat" "a kitten was sitting" "interest rates rose"
 *     embed <lines.txt
 *
 * Takes up to 64 texts: the arguments, or the lines of standard input that are not empty. Prints the matrix of their
 * cosine similarities, 1 for the same direction, one row for each text, with the text at its end. Exit codes and last line
 * are those of chat.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <math.h>

/* The texts of the request, for the output. */
struct texts {
    char **text;
    size_t count;
};

static confer_status add_text(struct texts *texts, confer_embeddings_request *request, const char *text,
                              confer_error **error) {
    confer_status status = confer_embeddings_request_add_text(request, text, CONFER_NTS, error);
    if (status != CONFER_OK) return status;
    char **more = realloc(texts->text, (texts->count + 1) * sizeof *more), *copy = strdup(text);
    if (more == NULL || copy == NULL) abort();
    texts->text = more;
    texts->text[texts->count++] = copy;
    return CONFER_OK;
}

static confer_status add_lines(struct texts *texts, confer_embeddings_request *request, FILE *file, confer_error **error) {
    struct text line = {0};
    confer_status status = CONFER_OK;
    for (int byte = 0; status == CONFER_OK && byte != EOF;) {
        line.len = 0;
        while ((byte = getc(file)) != EOF && byte != '\n') add(&line, &(char){(char)byte}, 1);
        if (line.len > 0 && *line.text != '\0') status = add_text(texts, request, line.text, error);
    }
    free(line.text);
    return status;
}

static void free_texts(struct texts *texts) {
    for (size_t at = 0; at < texts->count; at++) free(texts->text[at]);
    free(texts->text);
}

/* Returns 0 if one of them has no direction. */
static double cosine(const float *a, const float *b, size_t columns) {
    double both = 0, of_a = 0, of_b = 0;
    for (size_t at = 0; at < columns; at++) {
        both += (double)a[at] * b[at];
        of_a += (double)a[at] * a[at];
        of_b += (double)b[at] * b[at];
    }
    return of_a > 0 && of_b > 0 ? both / sqrt(of_a) / sqrt(of_b) : 0;
}

static void print_matrix(const float *values, size_t rows, size_t columns, const struct texts *texts) {
    for (size_t row = 0; row < rows && row < texts->count; row++) {
        for (size_t other = 0; other < rows; other++)
            printf("%6.3f ", cosine(values + row * columns, values + other * columns, columns));
        putchar(' ');
        print_text(stdout, texts->text[row], strlen(texts->text[row]));
        putchar('\n');
    }
}

/* Sends the texts; the answer is one event. */
static confer_status embed(confer_client *client, const confer_embeddings_request *request, const struct texts *texts,
                           confer_error **error) {
    confer_stream *stream = NULL;
    const confer_event *event = NULL;
    confer_status status = confer_embeddings_stream(client, request, NULL, &stream, error);
    while (status == CONFER_OK && (status = confer_stream_next(stream, -1, &event, error)) == CONFER_OK) {
        size_t rows, columns;
        const float *values = confer_event_embeddings(event, &rows, &columns);
        if (values != NULL) print_matrix(values, rows, columns, texts);
    }
    confer_stream_free(stream);
    return status;
}

int main(int argc, char **argv) {
    const char *usage = "embed [--url URL] [--policy FILE] [--token TOKEN] [TEXT...]";
    const struct own_option own[] = {{NULL, NULL}};
    struct service service = {0};
    struct texts texts = {NULL, 0};
    confer_client *client = NULL;
    confer_embeddings_request *request = NULL;
    confer_error *error = NULL;
    int at = read_service(argc, argv, usage, &service, own), code = USAGE;
    if (at >= 0) {
        bool from_lines = at == argc;
        confer_status status = confer_embeddings_request_new(&request, &error);
        for (; at < argc && status == CONFER_OK; at++) status = add_text(&texts, request, argv[at], &error);
        if (from_lines && status == CONFER_OK) status = add_lines(&texts, request, stdin, &error);
        if (status == CONFER_OK && texts.count == 0) {
            misused(usage, "there is no text", "");
        } else {
            if (status == CONFER_OK) status = connect_to(&service, &client, &error);
            if (status == CONFER_OK) status = embed(client, request, &texts, &error);
            code = end_with(status, error);
        }
    }
    free_texts(&texts);
    confer_embeddings_request_free(request);
    disconnect(&service, client);
    return code;
}
