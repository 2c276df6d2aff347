#include <confer.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) { // hello [URL POLICY_FILE]
    confer_config *config = NULL;
    confer_policy *policy = NULL;
    confer_client *client = NULL;
    confer_chat_request *request = NULL;
    confer_stream *stream = NULL;
    confer_error *error = NULL;
    const char *answer = NULL;
    bool local = argc > 1; // another enclave than Confer's needs another policy

    bool failed = confer_config_new(&config, &error) ||
                  confer_config_set_token(config, getenv("CONFER_TOKEN"), CONFER_NTS, &error) ||
                  (local && confer_config_set_endpoint(config, argv[1], CONFER_NTS, &error)) ||
                  (local && confer_policy_load(argv[2], CONFER_NTS, &policy, &error)) ||
                  (local && confer_config_set_policy(config, policy, &error)) ||
                  confer_connect(config, &client, &error) || // verifies the enclave, or fails
                  confer_chat_request_new(&request, &error) ||
                  confer_chat_request_add_message(request, CONFER_ROLE_USER, "Hello!", CONFER_NTS, &error) ||
                  confer_chat_stream(client, request, NULL, &stream, &error) ||
                  confer_stream_collect(stream, -1, &answer, NULL, &error);
    if (failed) fprintf(stderr, "%s\n", confer_error_message(error, NULL));
    else puts(answer);

    confer_error_free(error);
    confer_stream_free(stream);
    confer_chat_request_free(request);
    confer_client_free(client);
    confer_policy_free(policy);
    confer_config_free(config);
    return failed;
}
