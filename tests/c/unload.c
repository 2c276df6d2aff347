/*
 * Unloading: a host that is not linked with libconfer loads a plug-in that is, and gets rid of both. CONFER_PLUGIN names
 * the plug-in.
 */
#include "check.h"

#include <dlfcn.h>
#include <sys/wait.h>

static void *plugin;

static void load(void) {
    plugin = dlopen(getenv("CONFER_PLUGIN"), RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) check_failed(__FILE__, __LINE__, "dlopen", dlerror());
}

static int is_mapped(const char *name) {
    char line[1024];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) found += strstr(line, name) != NULL;
    fclose(maps);
    return found > 0;
}

static void unload(void) {
    CHECK(is_mapped("libconfer.so"));
    CHECK(dlclose(plugin) == 0);
    CHECK(!is_mapped("libconfer.so"));
}

struct work {
    const char *function;
    struct gate done, may_end;
};

static void *work(void *data) {
    struct work *work = data;
    void (*function)(void);
    void *symbol = dlsym(plugin, work->function);
    CHECK(symbol != NULL);
    memcpy(&function, &symbol, sizeof symbol); /* ISO C has no conversion from an object's pointer to a function's */
    function();
    gate_raise(&work->done);
    gate_wait(&work->may_end, 1);
    return NULL;
}

/* The host's own thread calls nothing: what a thread holds of a library keeps that loaded until the thread ends. */
static void use(const char *function) {
    struct work task = {function, GATE, GATE};
    pthread_t thread;
    gate_raise(&task.may_end);
    CHECK(pthread_create(&thread, NULL, work, &task) == 0 && pthread_join(thread, NULL) == 0);
}

static void the_library_is_unloaded_after_use_and_can_be_loaded_again(void) {
    for (int i = 0; i < 2; i++) {
        load();
        use("plugin_chat");
        unload();
    }
}

static void the_library_is_unloaded_after_a_connection_that_failed(void) {
    load();
    use("plugin_fail_to_connect");
    unload();
}

static void a_thread_that_used_the_library_may_end_after_it_was_closed(void) {
    struct work task = {"plugin_chat", GATE, GATE};
    pthread_t thread;
    load();
    CHECK(pthread_create(&thread, NULL, work, &task) == 0);
    gate_wait(&task.done, 1);
    CHECK(dlclose(plugin) == 0);
    gate_raise(&task.may_end);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void a_host_can_fork_after_the_library_is_gone(void) {
    load();
    use("plugin_chat");
    unload();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(0);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(the_library_is_unloaded_after_use_and_can_be_loaded_again),
        PROMISE(the_library_is_unloaded_after_a_connection_that_failed),
        PROMISE(a_host_can_fork_after_the_library_is_gone),
        PROMISE(a_thread_that_used_the_library_may_end_after_it_was_closed),
    };
    return KEEP_PROMISES(promises);
}
