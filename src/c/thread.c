/* The one thread-local of the library: this thread's hub, or NULL.
 *
 * It is C because stable Rust can not ask for the initial-exec model, which reads
 * the pointer in two instructions instead of calling __tls_get_addr: 2.5 ns against
 * 4.9 ns, in every function of the API. One pointer is small enough for the static
 * TLS surplus, so a program may still dlopen the library.
 */
#include <stddef.h>

__attribute__((visibility("hidden"), tls_model("initial-exec")))
_Thread_local void *weald_thread_hub = NULL;

__attribute__((visibility("hidden"))) void *weald_thread_hub_get(void) { return weald_thread_hub; }
__attribute__((visibility("hidden"))) void weald_thread_hub_set(void *hub) { weald_thread_hub = hub; }
