/* The same by OpenSSL and a loop around epoll: `openssl CERTIFICATE KEY`. Prints its port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0), one = 1;
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    static char some[64 << 10];

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (argc < 3 || SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1 ||
        bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&at, &len) || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        return 1;
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            SSL *ssl = events[i].data.ptr;
            int got;
            if (!ssl) { /* the listener's */
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                ssl = SSL_new(context);
                SSL_set_fd(ssl, fd);
                SSL_set_accept_state(ssl);
                event.data.ptr = ssl;
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            while ((got = SSL_read(ssl, some, sizeof some)) > 0) {
                for (int done = 0, wrote; done < got; done += wrote > 0 ? wrote : 0)
                    if ((wrote = SSL_write(ssl, some + done, got - done)) <= 0 &&
                        SSL_get_error(ssl, wrote) != SSL_ERROR_WANT_WRITE)
                        break;
                if (got < (int)sizeof some && SSL_pending(ssl) == 0)
                    break; /* it will be told of more */
            }
            if (got <= 0 && SSL_get_error(ssl, got) != SSL_ERROR_WANT_READ) {
                close(SSL_get_fd(ssl));
                SSL_free(ssl);
            }
        }
    }
}
