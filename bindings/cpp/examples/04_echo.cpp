/* 04_echo: a server with a greenlet for each connection, a pool that bounds them, and an orderly end by SIGTERM.
 *
 * Straight-line code: wait for the descriptor, then make the system call. A bad connection fails by an exception, which
 * ends its own greenlet and nothing else.
 *
 * Build:  c++ -std=c++17 04_echo.cpp $(pkg-config --cflags --libs weald) -o 04_echo
 * Prints:
 *   client 1 got hello from 1
 *   client 2 got hello from 2
 *   client 3 got hello from 3
 *   SIGTERM: no more connections
 *   served 3
 */
#include <csignal>
#include <iostream>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weald.hpp>

using namespace std::chrono_literals;

// What a system call returned, if it is no failure.
template <class N> static N must(N n, const char *what)
{
    return n >= 0 ? n : throw std::system_error(errno, std::generic_category(), what);
}

// One end of a connection. Each call waits until it will not block.
class stream {
public:
    explicit stream(int fd) : fd_(must(fd, "socket")) {}
    stream(stream &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ~stream() { close(fd_); }
    int fd() const { return fd_; }

    std::string get() const
    {
        char text[256];
        weald::wait_read(fd_, 5s);
        return std::string(text, static_cast<std::size_t>(must(read(fd_, text, sizeof text), "read")));
    }

    void put(const std::string &text) const // short enough for one write
    {
        weald::wait_write(fd_, 5s);
        must(write(fd_, text.data(), text.size()), "write");
    }

private:
    int fd_;
};

static void serve(int listener)
{
    const weald::pool connections(2); // the third waits in the backlog
    int served = 0;
    try {
        for (;;) {
            weald::wait_read(listener);
            stream peer(accept(listener, nullptr, nullptr));
            connections.go([peer = std::move(peer), &served] {
                for (std::string text; !(text = peer.get()).empty();)
                    peer.put(text);
                served++;
            });
        }
    } catch (const weald::cancelled &) {
        weald::shield while_they_finish;
        std::cout << "SIGTERM: no more connections\n";
        connections.join();
        std::cout << "served " << served << '\n';
    }
}

static std::string ask(const sockaddr_in &where, int number)
{
    stream server(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(server.fd(), reinterpret_cast<const sockaddr *>(&where), sizeof where), "connect");
    server.put("hello from " + std::to_string(number));
    return server.get();
}

int main()
{
    stream door(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in here{};
    auto *address = reinterpret_cast<sockaddr *>(&here);
    socklen_t size = sizeof here;
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(door.fd(), address, size), "bind");
    must(listen(door.fd(), 16), "listen");
    must(getsockname(door.fd(), address, &size), "getsockname");

    auto server = weald::spawn(serve, door.fd());
    auto terminator = weald::watcher::signal(SIGTERM, [&] { server.kill(weald::now); });
    for (int i = 1; i <= 3; i++)
        std::cout << "client " << i << " got " << weald::spawn(ask, here, i).get() << '\n';
    std::raise(SIGTERM);
    server.join();
}
