/*
 * Includes the header first, and twice. The program uses only the version, to test linking.
 */
#include <confer.h>
#include <confer.h>

int main(void) {
    return confer_version_number() == CONFER_VERSION_NUMBER ? 0 : 1;
}
