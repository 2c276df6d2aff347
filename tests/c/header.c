/*
 * The header alone: the first thing that is included, and included twice, in any C and C++. And a program that knows no
 * more of the library than its version, for linking in every way.
 */
#include <confer.h>
#include <confer.h>

int main(void) {
    return confer_version_number() == CONFER_VERSION_NUMBER ? 0 : 1;
}
