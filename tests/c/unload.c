/*
 * Unloading: a host without libconfer loads a plug-in that is linked with it, and unloads both.
 * CONFER_PLUGIN is the plug-in.
 */
#define CHECK_WITHOUT_LIBRARY
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
    memcpy(&function, &symbol, sizeof symbol); /* ISO C cannot convert an object pointer to a function pointer */
    function();
    gate_raise(&work->done);
    gate_wait(&work->may_end, 1);
    return NULL;
}

/* The main thread must not call the library: thread-local data would keep the library loaded. */
static void use(const char *function) {
    struct work task = {function, GATE, GATE};
    pthread_t thread;
    gate_raise(&task.may_end);
    CHECK(pthread_create(&thread, NULL, work, &task) == 0 && pthread_join(thread, NULL) == 0);
}

static void library_unloads_after_use_and_loads_again(void) {
    for (int i = 0; i < 2; i++) {
        load();
        use("plugin_chat");
        unload();
    }
}

static void library_unloads_after_a_failed_connection(void) {
    load();
    use("plugin_fail_to_connect");
    unload();
}

static void thread_that_used_the_library_may_end_later(void) {
    struct work task = {"plugin_chat", GATE, GATE};
    pthread_t thread;
    load();
    CHECK(pthread_create(&thread, NULL, work, &task) == 0);
    gate_wait(&task.done, 1);
    CHECK(dlclose(plugin) == 0);
    gate_raise(&task.may_end);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void host_forks_after_unloading_the_library(void) {
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
        PROMISE(library_unloads_after_use_and_loads_again),
        PROMISE(library_unloads_after_a_failed_connection),
        PROMISE(host_forks_after_unloading_the_library),
        PROMISE(thread_that_used_the_library_may_end_later),
    };
    return KEEP_PROMISES(promises);
}
