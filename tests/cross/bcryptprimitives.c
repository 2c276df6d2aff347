/* Windows has this DLL; wine 8 does not. Rust's standard library gets its random numbers from it. */
#include <windows.h>

#include <ntsecapi.h>
#include <stdio.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T len) {
    return RtlGenRandom(data, (ULONG)len);
}

/* Windows does not buffer standard error. Wine does, unless it is a console. */
BOOL WINAPI DllMain(HINSTANCE dll, DWORD reason, LPVOID unused) {
    (void)dll, (void)unused;
    if (reason == DLL_PROCESS_ATTACH) setvbuf(stderr, NULL, _IONBF, 0);
    return TRUE;
}
