/* The least program that uses an installed weald: a greenlet runs and hands back its argument. */
#include <stdio.h>
#include <string.h>
#include <weald.h>

static void *body(void *arg) { return arg; }

int main(void)
{
    int here = 0;
    void *value = NULL;
    weald_greenlet g = weald_spawn(body, &here);

    if (g < 0 || weald_get(g, &value, WEALD_FOREVER) != 0 || value != &here || weald_close(g) != 0)
        return 1;
    if (strcmp(weald_version(), WEALD_VERSION) != 0)
        return 2;
    return weald_hub_shutdown() == 0 ? 0 : 3;
}
