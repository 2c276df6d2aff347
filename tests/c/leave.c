/*
 * Processes that end while the library connects. Programs of tests/c/leaver.c, linked in every way, end
 * after a connection has begun. Its next bytes arrive while the destructors of the program run. The programs
 * must end in time, with the exit code that they chose.
 *
 * This process delays the connection: it is a relay between the program and the enclave, and does not use
 * the library. CONFER_LEAVERS names the programs, separated by colons.
 */
#include "enclave.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

enum { EXIT_CODE = 7, LIMIT_MS = 30000 };

static struct enclave enclave;

struct leaver {
    pid_t pid;
    int listener, to, from; /* the pipes: see leaver.c */
    char url[64];
};

static void listen_on_loopback(struct leaver *leaver) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    leaver->listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(leaver->listener >= 0 && bind(leaver->listener, (struct sockaddr *)&address, len) == 0);
    CHECK(listen(leaver->listener, 4) == 0 && getsockname(leaver->listener, (struct sockaddr *)&address, &len) == 0);
    snprintf(leaver->url, sizeof leaver->url, "ws://127.0.0.1:%d/websocket", ntohs(address.sin_port));
}

static void leaver_start(struct leaver *leaver, const char *program, const char *scenario) {
    int to[2], from[2];
    listen_on_loopback(leaver);
    CHECK(pipe(to) == 0 && pipe(from) == 0);
    leaver->pid = fork();
    CHECK(leaver->pid >= 0);
    if (leaver->pid == 0) {
        int in = fcntl(to[0], F_DUPFD, 20), out = fcntl(from[1], F_DUPFD, 20);
        for (int fd = 3; fd < 20; fd++) close(fd);
        dup2(in, 3), dup2(out, 4);
        close(in), close(out);
        execl(program, program, scenario, leaver->url, enclave.token, enclave.policy, (char *)NULL);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    leaver->to = to[1], leaver->from = from[0];
}

static int accept_one(const struct leaver *leaver) {
    int socket = accept(leaver->listener, NULL, NULL);
    CHECK(socket >= 0);
    return socket;
}

static int connect_to_enclave(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int port, fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && sscanf(enclave.url, "ws://127.0.0.1:%d/", &port) == 1);
    address.sin_port = htons((unsigned short)port);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static int poll_one(int fd, int timeout_ms) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, timeout_ms);
}

/* A relay between program and enclave. A turn is bytes in one direction after bytes in the other. */
struct way {
    int client, enclave, last, turns;
};

/* Passes on all waiting bytes. Returns 0 when one end is closed. */
static int pass(struct way *way, int timeout_ms) {
    struct pollfd ends[2] = {{.fd = way->client, .events = POLLIN}, {.fd = way->enclave, .events = POLLIN}};
    if (poll(ends, 2, timeout_ms) <= 0) return 1;
    for (int i = 0; i < 2; i++) {
        char bytes[70000];
        if (ends[i].revents == 0) continue;
        ssize_t len = read(ends[i].fd, bytes, sizeof bytes);
        if (len <= 0) return 0;
        if (send(ends[1 - i].fd, bytes, (size_t)len, MSG_NOSIGNAL) != len) return 0;
        if (way->last != i + 1) way->last = i + 1, way->turns++;
    }
    return 1;
}

static void way_close(struct way *way) {
    close(way->client), close(way->enclave);
}

static void end_while_connecting(const char *program, const char *scenario) {
    struct leaver leaver;
    int status = -1, told = 0, ended = 0;
    char byte;
    struct way first = {-1, -1, 0, 0};
    leaver_start(&leaver, program, scenario);
    if (strcmp(scenario, "first") != 0 && strcmp(scenario, "callback") != 0) {
        first = (struct way){accept_one(&leaver), connect_to_enclave(), 0, 0};
        /* The upgrade and its answer, messages 1 and 2, and message 3. */
        while (first.turns < 5) CHECK(pass(&first, LIMIT_MS));
        if (strcmp(scenario, "reconnect") == 0) way_close(&first);
    }
    struct way held = {accept_one(&leaver), connect_to_enclave(), 0, 0};
    CHECK(write(leaver.to, "h", 1) == 1);
    /* The first connection runs until it is closed. The held one waits until the process is about to end. */
    int open = strcmp(scenario, "second") == 0;
    while (poll_one(leaver.from, open ? 0 : LIMIT_MS) == 0) open = open && pass(&first, 10);
    CHECK(read(leaver.from, &byte, 1) == 1 && byte == 'c');
    for (int64_t until = check_now_ms() + LIMIT_MS; !ended && check_now_ms() < until;) {
        if (!pass(&held, 10)) check_pause();
        if (held.turns >= 3 && !told++) CHECK(write(leaver.to, "m", 1) == 1); /* message 1 came, so there was randomness */
        ended = waitpid(leaver.pid, &status, WNOHANG) == leaver.pid;
    }
    CHECK(ended);
    if (WIFSIGNALED(status)) fprintf(stderr, "\n%s %s: signal %d", program, scenario, WTERMSIG(status));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == EXIT_CODE);
    way_close(&held);
    if (strcmp(scenario, "second") == 0) way_close(&first);
    close(leaver.listener), close(leaver.to), close(leaver.from);
}

/* A program that asks for a connection while it already ends. */
static void connect_late(const char *program, const char *scenario) {
    struct leaver leaver;
    int status;
    char byte;
    leaver_start(&leaver, program, scenario);
    CHECK(read(leaver.from, &byte, 1) == 1 && byte == 'c' && write(leaver.to, "m", 1) == 1);
    CHECK(waitpid(leaver.pid, &status, 0) == leaver.pid && WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == EXIT_CODE);
    close(leaver.listener), close(leaver.to), close(leaver.from);
}

static void every_program(void (*end)(const char *program, const char *scenario), const char *scenario) {
    char list[2000], *rest = list;
    CHECK(getenv("CONFER_LEAVERS") != NULL);
    snprintf(list, sizeof list, "%s", getenv("CONFER_LEAVERS"));
    signal(SIGPIPE, SIG_IGN);
    enclave_start(&enclave, NULL);
    for (char *program; (program = strtok_r(rest, ":", &rest)) != NULL;) end(program, scenario);
    enclave_stop(&enclave);
}

static void process_may_end_during_first_connection(void) {
    every_program(end_while_connecting, "first");
}

static void process_may_end_during_second_connection(void) {
    every_program(end_while_connecting, "second");
}

static void process_may_end_while_reconnecting(void) {
    every_program(end_while_connecting, "reconnect");
}

static void process_may_end_in_a_callback(void) {
    every_program(end_while_connecting, "callback");
}

static void process_that_ends_begins_no_connection(void) {
    every_program(connect_late, "late");
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(process_may_end_during_first_connection),
        PROMISE(process_may_end_during_second_connection),
        PROMISE(process_may_end_while_reconnecting),
        PROMISE(process_may_end_in_a_callback),
        PROMISE(process_that_ends_begins_no_connection),
    };
    return KEEP_PROMISES(promises);
}
