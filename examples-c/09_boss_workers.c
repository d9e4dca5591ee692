/* 09_boss_workers: a boss puts tickets into a queue, three workers take them in turn.
 *
 * The queue has no bound, so the boss never waits to put. It shuts the queue when there is no more
 * to come: what is inside is still handed out, then every get returns WEALD_EPIPE. With
 * weald_queue_task_done and weald_queue_join the boss learns when all of it is finished, not only
 * taken. Tickets belong to whoever has taken them; one left in the queue would be freed by it.
 *
 * Build:  cc -std=c11 09_boss_workers.c $(pkg-config --cflags --libs weald) -o 09_boss_workers
 * Prints:
 *   boss: 7 tickets are in the queue
 *   steve got ticket 1
 *   john got ticket 2
 *   nancy got ticket 3
 *   steve got ticket 4
 *   john got ticket 5
 *   nancy got ticket 6
 *   steve got ticket 7
 *   john goes home
 *   nancy goes home
 *   steve goes home
 *   boss: all tickets are done
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

enum { TICKETS = 7, WORKERS = 3 };

static weald_queue tickets;

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static int *new_ticket(int number)
{
    int *ticket = malloc(sizeof *ticket);

    must(ticket ? 0 : WEALD_ENOMEM, "malloc");
    *ticket = number;
    return ticket;
}

static void *boss(void *unused)
{
    for (int i = 1; i <= TICKETS; i++)
        must(weald_queue_put(tickets, new_ticket(i), WEALD_NOW), "put");
    must(weald_queue_shut(tickets), "shut");
    printf("boss: %d tickets are in the queue\n", (int)must(weald_queue_len(tickets), "len"));
    must(weald_queue_join(tickets, WEALD_FOREVER), "queue join");
    puts("boss: all tickets are done");
    return unused;
}

static void *worker(void *who)
{
    void *ticket;
    int code;

    while ((code = weald_queue_get(tickets, &ticket, WEALD_FOREVER)) == 0) {
        printf("%s got ticket %d\n", (const char *)who, *(int *)ticket);
        free(ticket);
        must(weald_yield(), "yield"); /* stands for the work */
        must(weald_queue_task_done(tickets), "task done");
    }
    must(code == WEALD_EPIPE ? 0 : code, "get");
    printf("%s goes home\n", (const char *)who);
    return NULL;
}

int main(void)
{
    char *names[WORKERS] = {"steve", "john", "nancy"};
    weald_greenlet all[WORKERS + 1];

    tickets = must(weald_queue_new(WEALD_FIFO, WEALD_UNBOUNDED, free), "queue");
    all[0] = must(weald_spawn(boss, NULL), "spawn boss");
    for (int i = 0; i < WORKERS; i++)
        all[i + 1] = must(weald_spawn(worker, names[i]), "spawn worker");
    must(weald_joinall(all, WORKERS + 1, 0, 0, WEALD_FOREVER), "joinall");

    for (int i = 0; i < WORKERS + 1; i++)
        must(weald_close(all[i]), "close greenlet");
    must(weald_close(tickets), "close queue");
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
