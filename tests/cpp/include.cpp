// confer.hpp is included twice, under macros of Windows and X11, in two translation units, and with
// all of its names in scope. test.sh compiles this file with and without SECOND.

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define ERROR 0
#define DELETE 0x10000L
#define TIMEOUT 1
#define IN
#define OUT
#define CALLBACK
#define near
#define far
#define small char
#define interface struct
#define None 0L
#define Bool int
#define Status int
#define Success 0
#define major(device) (device)
#define minor(device) (device)

#include <confer.hpp>
#include <confer.hpp>

using namespace std;
using namespace confer;

#if __cplusplus >= 202002L
#include <ranges>
static_assert(std::ranges::input_range<pull_stream>);
#endif

int second(const confer::config &from);

#ifdef SECOND
int second(const confer::config &from) { return from.get() != nullptr && name(role::user) == "CONFER_ROLE_USER" ? 0 : 1; }
#else
int main() {
    confer::config config;
    config.token("x").limit(limit::attempts, 3).duration(confer::duration::connect, std::chrono::seconds(1));
    return second(config);
}
#endif
