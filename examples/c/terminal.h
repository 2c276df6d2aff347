/*
 * terminal.h: output for people on standard error: colours, waiting times, and lines that appear above a prompt while
 * somebody types. Without a terminal it is plain text, line by line.
 *
 * Hold the lock of `stderr` (flockfile) during these calls, because the library's threads write there too.
 */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "common.h"
#include "portable.h"

static const char *bold = "", *dim = "", *red = "", *green = "", *yellow = "", *plain = "";
static bool live;          /* a terminal whose cursor can be moved */
static bool waiting_shown; /* after the cursor */

static inline void use_terminal(void) {
    live = terminal_moves_cursor();
    if (!live || getenv("NO_COLOR") != NULL) return;
    bold = "\033[1m", dim = "\033[2m", red = "\033[31m", green = "\033[32m", yellow = "\033[33m", plain = "\033[0m";
}

/* --- waiting ------------------------------------------------------------------------------------------------------- */

/* Shows a waiting time of a second or more after the cursor, which does not move. */
static inline void show_waiting(int64_t since_ms) {
    int seconds = (int)((now_ms() - since_ms) / 1000);
    if (!live || seconds < 1) return;
    fprintf(stderr, "\0337\033[?7l%s… %d s%s\033[K\033[?7h\0338", dim, seconds, plain);
    waiting_shown = true;
}

static inline void hide_waiting(void) {
    if (waiting_shown) fputs("\033[K", stderr);
    waiting_shown = false;
}

/* Returns how long to wait: until the next second is shown, or `left_ms` is over. Negative: no limit. */
static inline int64_t until_next_second(int64_t since_ms, int64_t left_ms) {
    int64_t next = 1000 - (now_ms() - since_ms) % 1000;
    if (!live) return left_ms;
    return left_ms >= 0 && left_ms < next ? left_ms : next;
}

/* --- lines above a prompt ------------------------------------------------------------------------------------------ */

/* Counts the bytes of `text` that fit into one line of the terminal, without the line break. Colours take no room. */
static inline size_t one_line(const char *text, size_t columns) {
    size_t at = 0, used = 0;
    while (text[at] != '\0' && text[at] != '\n') {
        if (text[at] == '\033') {
            at += strcspn(text + at, "m");
            at += text[at] == 'm';
            continue;
        }
        bool starts = ((unsigned char)text[at] & 0xC0) != 0x80; /* else it continues a character */
        if (starts && ++used > columns) break;
        at++;
    }
    return at;
}

/*
 * Writes lines above the line with the cursor, which moves down with the typed text. For each line: make sure that a
 * line exists below (ESC D scrolls at the bottom), insert one, and return.
 */
static inline void write_above(const char *lines) {
    size_t columns = columns_of_terminal();
    struct text out = {0};
    while (*lines != '\0') {
        size_t len = one_line(lines, columns);
        add_format(&out, "\033D\033[A\0337\r\033[L%.*s\0338\033[B", (int)len, lines);
        lines += len;
        lines += *lines == '\n';
    }
    fwrite(out.text, 1, out.len, stderr); /* in one write: the terminal echoes typed text in between */
    free(out.text);
}

#endif
