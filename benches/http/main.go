// Go's net/http, as weald.c, on one core.
package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

func main() {
	gate := make(chan struct{})
	hello, large, piece := []byte("Hello, World!"), bytes.Repeat([]byte("x"), 10000), bytes.Repeat([]byte("x"), 100)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		switch r.URL.Path {
		case "/":
			w.Write(hello)
		case "/poll":
			<-gate
			w.Write(hello)
		case "/go":
			close(gate)
			w.Write(hello)
		case "/10k":
			w.Header().Set("Content-Length", strconv.Itoa(len(large)))
			w.Write(large)
		default:
			for i := 0; i < 10; i++ {
				w.Write(piece)
			}
			w.(http.Flusher).Flush()
		}
	}))
}
