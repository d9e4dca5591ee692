/* 04_failure: parse numbers in greenlets; what fails, fails alone and says why.
 *
 * A greenlet fails by value: weald_fail marks it with a code and a message, and the function
 * returns. The hub's error handler hears of it once (by default it writes to stderr); whoever
 * calls weald_get receives the code. Nobody else is disturbed.
 *
 * Build:  cc -std=c11 04_failure.c $(pkg-config --cflags --libs weald) -o 04_failure
 * Prints:
 *   before: "42" started yes, finished no
 *   before: "4x2" started yes, finished no
 *   error handler: EINVAL, not a number: 4x2
 *   after: "42" finished yes, successful yes, value 42
 *   after: "4x2" finished yes, successful no, EINVAL, not a number: 4x2
 */
#include <stdio.h>
#include <stdlib.h>
#include <weald.h>

struct number {
    const char *text;
    long value;
};

static int64_t must(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, weald_strerror((int)code));
        exit(1);
    }
    return code;
}

static const char *yes_no(int64_t flag)
{
    return must(flag, "state") ? "yes" : "no";
}

static void *parse(void *arg)
{
    struct number *number = arg;
    char message[64];
    char *end;

    number->value = strtol(number->text, &end, 10);
    if (end != number->text && *end == '\0')
        return &number->value;
    snprintf(message, sizeof message, "not a number: %s", number->text);
    return weald_fail(WEALD_EINVAL, message); /* the message is copied */
}

static void on_error(weald_greenlet g, int code, const char *message, void *user)
{
    (void)g;
    (void)user;
    printf("error handler: %s, %s\n", weald_strcode(code), message);
}

static void tell(weald_greenlet g, const char *text)
{
    void *value;
    int code = weald_get(g, &value, WEALD_NOW);

    printf("after: \"%s\" finished %s, successful %s, ", text, yes_no(weald_ready(g)),
           yes_no(weald_successful(g)));
    if (code == 0)
        printf("value %ld\n", *(long *)value);
    else
        printf("%s, %s\n", weald_strcode(code), weald_error_message(g));
}

int main(void)
{
    struct number numbers[2] = {{"42", 0}, {"4x2", 0}};
    weald_greenlet parsers[2];

    must(weald_set_error_handler(on_error, NULL), "error handler");
    for (int i = 0; i < 2; i++) {
        parsers[i] = must(weald_spawn(parse, &numbers[i]), "spawn");
        printf("before: \"%s\" started %s, finished %s\n", numbers[i].text,
               yes_no(weald_started(parsers[i])), yes_no(weald_ready(parsers[i])));
    }
    must(weald_joinall(parsers, 2, 0, 0, WEALD_FOREVER), "joinall");
    for (int i = 0; i < 2; i++) {
        tell(parsers[i], numbers[i].text);
        must(weald_close(parsers[i]), "close");
    }
    return must(weald_hub_shutdown(), "shutdown") == 0 ? 0 : 1;
}
