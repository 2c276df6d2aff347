/*
 * The key-set cache file: its content, invalid files, and a full disk.
 */
#include "enclave.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct enclave enclave;
static char folder[300], cache[340];

static void setup(const char *fault) {
    snprintf(folder, sizeof folder, "%s/cache.XXXXXX", getenv("CONFER_ENCLAVE_STATE"));
    CHECK(mkdtemp(folder) != NULL);
    snprintf(cache, sizeof cache, "%s/keys.json", folder);
    enclave_start(&enclave, fault);
}

static void teardown(void) {
    unlink(cache);
    CHECK(rmdir(folder) == 0); /* no temporary file remains */
    enclave_stop(&enclave);
}

static void write_file(const char *path, const char *content) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(content, file) >= 0 && fclose(file) == 0);
}

static void read_file(const char *path, char *content, size_t size) {
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    content[fread(content, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* Checks that a file contains the fetched key set. */
static void check_is_key_set(const char *path) {
    static char content[65536];
    read_file(path, content, sizeof content);
    CHECK(strstr(content, "\"keys\"") != NULL && strstr(content, "\"x5c\"") != NULL);
}

static confer_config *config_with(const char *path) {
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_jwks_cache_file(config, path, SIZE_MAX, &error));
    return config;
}

static void connect_with(const char *path) {
    confer_config *config = config_with(path);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    enclave_close(client);
}

static void refuse_with(const char *path, const char *words) {
    confer_config *config = config_with(path);
    confer_client *client = NULL;
    CHECK_ERROR(CONFER_E_FILE, words, confer_connect(config, &client, &error));
    CHECK(client == NULL);
    confer_config_free(config);
}

static void fetched_key_set_is_cached_for_the_next_connection(void) {
    setup(NULL);
    connect_with(cache);
    check_is_key_set(cache);
    CHECK(enclave_logged(&enclave, "key-set"));
    enclave_stop(&enclave);
    /* The same trust world, with a broken key server. */
    enclave_start(&enclave, "key-server-500");
    connect_with(cache);
    CHECK(!enclave_logged(&enclave, "key-set"));
    teardown();
}

static void empty_file_is_an_unused_cache(void) {
    setup(NULL);
    write_file(cache, "");
    connect_with(cache);
    check_is_key_set(cache);
    teardown();
}

static void invalid_cache_file_is_named_and_left_unchanged(void) {
    static const char *const contents[] = {"my diary\n", "{}", "[1, 2]", "{\"keys\": 7}", "{\"keys\": [", "\xff\xfe"};
    setup(NULL);
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        char after[64];
        write_file(cache, contents[i]);
        refuse_with(cache, cache);
        read_file(cache, after, sizeof after);
        CHECK_TEXT(contents[i], after);
    }
    CHECK(!enclave_logged(&enclave, "accepted")); /* it fails before sending anything */
    teardown();
}

static void unreadable_cache_file_is_named_with_the_system_error(void) {
    setup(NULL);
    refuse_with(folder, "it is a directory");
    refuse_with("/dev/null/keys.json", "/dev/null/keys.json: Not a directory");
    refuse_with("/dev/full", "/dev/full: it is not a regular file");
    struct stat device;
    CHECK(stat("/dev/full", &device) == 0 && S_ISCHR(device.st_mode));
    teardown();
}

struct warnings {
    struct gate destroyed;
    int count;
    char last[1000];
};

static void on_record(void *user_data, int32_t level, const char *target, const char *message) {
    (void)target;
    struct warnings *warnings = user_data;
    CHECK(level <= CONFER_LOG_WARN);
    warnings->count++;
    snprintf(warnings->last, sizeof warnings->last, "%s", message);
}

static void on_warnings_destroyed(void *user_data) {
    gate_raise(&((struct warnings *)user_data)->destroyed);
}

/* Connects although the key set cannot be stored, and checks the warning's words. */
static void connect_and_be_warned(const char *path, const char *words) {
    struct warnings warnings = {.destroyed = GATE};
    confer_config *config = config_with(path);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_WARN, on_record, &warnings, on_warnings_destroyed, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    enclave_close(client);
    gate_wait(&warnings.destroyed, 1);
    CHECK(warnings.count == 1);
    if (strstr(warnings.last, words) == NULL) check_failed(__FILE__, __LINE__, words, warnings.last);
}

static void missing_cache_folder_only_warns(void) {
    setup(NULL);
    connect_and_be_warned("/nowhere/keys.json", "/nowhere/keys.json");
    teardown();
}

static void full_disk_only_warns_and_leaves_no_partial_file(void) {
    setup(NULL);
    /* No file may grow beyond 100 bytes, as on a full disk. */
    struct rlimit limit, small;
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small = limit;
    small.rlim_cur = 100;
    signal(SIGXFSZ, SIG_IGN);
    fflush(stdout);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    connect_and_be_warned(cache, "was not kept");
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signal(SIGXFSZ, SIG_DFL);
    CHECK(access(cache, F_OK) != 0);
    teardown();
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(fetched_key_set_is_cached_for_the_next_connection),
        PROMISE(empty_file_is_an_unused_cache),
        PROMISE(invalid_cache_file_is_named_and_left_unchanged),
        PROMISE(unreadable_cache_file_is_named_with_the_system_error),
        PROMISE(missing_cache_folder_only_warns),
        PROMISE(full_disk_only_warns_and_leaves_no_partial_file),
    };
    return KEEP_PROMISES(promises);
}
