/*
 * A plug-in that uses the library. unload.c loads it, calls it, and unloads it with libconfer.
 */
#include "recorder.h"

void plugin_chat(void);
void plugin_fail_to_connect(void);

/* Uses all threads of the library, and closes. */
void plugin_chat(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    chat_says(client, "from a plug-in", "You said: from a plug-in");
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, "once more");
    recorder_wait(&recorder, CONFER_OK);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* Without a client to close, a plug-in waits for the library's threads before it is unloaded. */
void plugin_fail_to_connect(void) {
    struct enclave enclave;
    enclave_start(&enclave, "accept-drop");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_connect(config, &client, &error));
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
    enclave_stop(&enclave);
}
