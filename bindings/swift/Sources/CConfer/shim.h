/* The C API under this package's own module name. */
#include <confer.h>
