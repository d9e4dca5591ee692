/* 23_timer_watcher: a timer that beats four times, a loop that runs until nothing is left.
 *
 * A watcher is a callback on the hub's loop, for those who want one instead of a greenlet. It must
 * not wait: a call that would returns WEALD_EWOULDBLOCK. It may set an event, and so wake a
 * greenlet. weald_run returns when no greenlet and no started watcher is left; a watcher that is
 * unref'd, like the long timer here, does not count.
 *
 * Build:  cc -std=c11 23_timer_watcher.c $(pkg-config --cflags --libs weald) -o 23_timer_watcher
 * Prints:
 *   beat 1
 *   beat 2
 *   waiting in a callback: EWOULDBLOCK
 *   greenlet: two beats have passed
 *   beat 3
 *   beat 4
 *   nothing is left to do, the beat is off, the long timer is still on
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

struct metronome {
    int beats;
    weald_event second_beat;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static void beat(weald_watcher timer, int what, void *user)
{
    struct metronome *metronome = user;

    (void)what;
    printf("beat %d\n", ++metronome->beats);
    if (metronome->beats == 2) {
        printf("waiting in a callback: %s\n", weald_strcode(weald_sleep(WEALD_MS(1))));
        must(weald_event_set(metronome->second_beat), "set");
    }
    if (metronome->beats == 4)
        must(weald_watcher_stop(timer), "stop");
}

static void too_late(weald_watcher timer, int what, void *user)
{
    (void)timer, (void)what, (void)user;
    puts("an hour has passed");
}

static void *listener(void *event)
{
    must(weald_event_wait(*(weald_event *)event, WEALD_FOREVER), "wait");
    puts("greenlet: two beats have passed");
    return NULL;
}

int main(void)
{
    struct metronome metronome = {0, must(weald_event_new(0), "event")};
    weald_watcher every = must(
        weald_timer_watcher(WEALD_MS(20), WEALD_MS(20), beat, &metronome), "repeating timer");
    weald_watcher hour = must(
        weald_timer_watcher(WEALD_SEC(3600), 0, too_late, NULL), "long timer");

    must(weald_go(listener, &metronome.second_beat), "go");
    must(weald_watcher_start(every), "start the beat");
    must(weald_watcher_start(hour), "start the long timer");
    must(weald_watcher_unref(hour), "unref");
    must(weald_run(WEALD_FOREVER), "run");

    printf("nothing is left to do, the beat is %s, the long timer is %s\n",
           must(weald_watcher_active(every), "active") ? "still on" : "off",
           must(weald_watcher_active(hour), "active") ? "still on" : "off");
    must(weald_close(every), "close the beat");
    must(weald_close(hour), "close the long timer");
    must(weald_close(metronome.second_beat), "close event");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
