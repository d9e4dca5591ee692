/* The one thread-local of the library where it is not written in assembly: this thread's hub, or
 * NULL. See src/hub/thread.rs.
 */
#include <stddef.h>

__attribute__((visibility("hidden"), tls_model("initial-exec")))
_Thread_local void *weald_thread_hub = NULL;

__attribute__((visibility("hidden"))) void *weald_thread_hub_get(void) { return weald_thread_hub; }
__attribute__((visibility("hidden"))) void weald_thread_hub_set(void *hub) { weald_thread_hub = hub; }
