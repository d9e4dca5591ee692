// Go, run with GOMAXPROCS=1 so that its goroutines share one thread as green threads do.
//
//	go_bench ROW [NUMBER...]    prints lines "metric value"
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const processCPUClock = 2 // CLOCK_PROCESS_CPUTIME_ID

func cpuNs() float64 {
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, processCPUClock, uintptr(unsafe.Pointer(&t)), 0)
	return float64(t.Nano())
}

func report(metric string, value float64) { fmt.Printf("%s %.3f\n", metric, value) }

func reportNs(metric string, since float64, operations int) {
	report(metric, (cpuNs()-since)/float64(operations))
}

func must(err error) {
	if err != nil {
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
}

// ---- memory ----

type memory struct{ rss, pageTables, mappings float64 }

func memoryNow() (m memory) {
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	maps, err := os.ReadFile("/proc/self/maps")
	must(err)
	for _, line := range bytes.Split(status, []byte("\n")) {
		var kib float64
		if n, _ := fmt.Sscanf(string(line), "VmRSS: %f", &kib); n == 1 {
			m.rss = kib * 1024
		}
		if n, _ := fmt.Sscanf(string(line), "VmPTE: %f", &kib); n == 1 {
			m.pageTables = kib * 1024
		}
	}
	m.mappings = float64(bytes.Count(maps, []byte("\n")))
	return
}

func reportParked(before memory, n int) memory {
	peak := memoryNow()
	report("rss", (peak.rss-before.rss)/float64(n))
	report("page_tables", (peak.pageTables-before.pageTables)/float64(n))
	report("mappings", peak.mappings-before.mappings)
	return peak
}

// ---- yield, spawn, park, sleep ----

func yield(n []int) {
	share, started, opened := n[1]/n[0], 0, false
	var all sync.WaitGroup
	all.Add(n[0])
	for i := 0; i < n[0]; i++ {
		go func() {
			started++
			for !opened {
				runtime.Gosched()
			}
			for k := 0; k < share; k++ {
				runtime.Gosched()
			}
			all.Done()
		}()
	}
	for started < n[0] {
		runtime.Gosched()
	}
	opened = true
	t0 := cpuNs()
	all.Wait()
	reportNs("ns", t0, share*n[0])
}

func spawnBatch(batch int) {
	var all sync.WaitGroup
	all.Add(batch)
	for i := 0; i < batch; i++ {
		go all.Done()
	}
	all.Wait()
}

func spawn(n []int) {
	spawnBatch(n[0])
	t0 := cpuNs()
	for i := 0; i < n[1]; i++ {
		spawnBatch(n[0])
	}
	reportNs("ns", t0, n[0]*n[1])
}

// The collector is off for this row: it would walk the stacks while they are being
// made, which says more about its pace than about a goroutine's price.
func park(n []int) {
	debug.SetGCPercent(-1)
	gate := make(chan bool)
	var all, up sync.WaitGroup
	all.Add(n[0])
	up.Add(n[0])
	before := memoryNow()
	t0 := cpuNs()
	for i := 0; i < n[0]; i++ {
		go func() { up.Done(); <-gate; all.Done() }()
	}
	up.Wait()
	runtime.Gosched()
	reportNs("spawn", t0, n[0])
	peak := reportParked(before, n[0])
	t0 = cpuNs()
	close(gate)
	all.Wait()
	reportNs("join", t0, n[0])
	debug.FreeOSMemory() // collects, and returns what is free: the most Go can do
	time.Sleep(300 * time.Millisecond)
	report("left", 100*(memoryNow().rss-before.rss)/(peak.rss-before.rss))
}

// xorshift with the seed of bench.h: everybody sleeps the same sequence.
var seed uint32 = 2463534242

func randomMs(longest int) time.Duration {
	seed ^= seed << 13
	seed ^= seed >> 17
	seed ^= seed << 5
	return time.Duration(1+seed%uint32(longest)) * time.Millisecond
}

func sleeps(n []int) {
	var all sync.WaitGroup
	all.Add(n[0])
	t0 := cpuNs()
	for i := 0; i < n[0]; i++ {
		go func() {
			time.Sleep(randomMs(n[1]))
			all.Done()
		}()
	}
	all.Wait()
	reportNs("ns", t0, n[0])
}

// ---- channels, mutex ----

func rendezvous(n []int) {
	there, back := make(chan int), make(chan int)
	go func() {
		for value := range there {
			back <- value
		}
	}()
	t0 := cpuNs()
	for i := 0; i < n[0]/2; i++ {
		there <- i
		<-back
	}
	reportNs("ns", t0, n[0])
}

func queue(n []int) {
	q := make(chan int, n[0])
	go func() {
		for i := 0; i < n[1]; i++ {
			q <- i
		}
	}()
	t0 := cpuNs()
	for i := 0; i < n[1]; i++ {
		if <-q != i {
			panic("order")
		}
	}
	reportNs("ns", t0, n[1])
}

// A channel of one empty struct is Go's semaphore.
func semaphore(n []int) {
	mine, yours := make(chan struct{}, 1), make(chan struct{}, 1)
	go func() {
		for range mine {
			yours <- struct{}{}
		}
	}()
	t0 := cpuNs()
	for i := 0; i < n[0]/2; i++ {
		mine <- struct{}{}
		<-yours
	}
	reportNs("ns", t0, n[0])
}

func mutex(n []int) {
	var lock sync.Mutex
	var all sync.WaitGroup
	body := func() {
		for i := 0; i < n[0]/2; i++ {
			lock.Lock()
			runtime.Gosched()
			lock.Unlock()
		}
		all.Done()
	}
	all.Add(2)
	t0 := cpuNs()
	go body()
	go body()
	all.Wait()
	reportNs("ns", t0, n[0])
}

// ---- descriptors ----

func conn(fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "pair")
	c, err := net.FileConn(f) // duplicates the descriptor
	must(err)
	f.Close()
	return c
}

func openPair() (net.Conn, net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	must(err)
	return conn(fds[0]), conn(fds[1])
}

func readByte(c net.Conn, buf []byte) {
	_, err := c.Read(buf)
	must(err)
}

func writeByte(c net.Conn, buf []byte) {
	_, err := c.Write(buf)
	must(err)
}

func pingpong(n []int) {
	near, far := openPair()
	go func() {
		buf := make([]byte, 1)
		for i := 0; i < n[0]; i++ {
			readByte(far, buf)
			writeByte(far, buf)
		}
	}()
	buf := make([]byte, 1)
	t0 := cpuNs()
	for i := 0; i < n[0]; i++ {
		writeByte(near, buf)
		readByte(near, buf)
	}
	reportNs("ns", t0, n[0])
}

func ring(n []int) {
	pairs, active, hops := n[0], n[1], n[2]
	to, from := make([]net.Conn, pairs), make([]net.Conn, pairs)
	for i := range to {
		from[i], to[i] = openPair()
	}
	done, over := 0, make(chan bool, active)
	relay := func(in, out net.Conn) {
		buf := make([]byte, 1)
		for {
			readByte(in, buf)
			if done++; done == hops {
				over <- true
			}
			writeByte(out, buf)
		}
	}
	for i := range to {
		go relay(to[i], from[(i+1)%pairs])
	}
	time.Sleep(10 * time.Millisecond) // until all of them wait
	t0 := cpuNs()
	for i := 0; i < active; i++ {
		writeByte(from[i*(pairs/active)], []byte{1})
	}
	<-over
	reportNs("ns", t0, hops)
}

// ---- servers ----

const requestMax = 4096 // REQUEST_MAX of bench.h

// net.Conn is non-blocking, with TCP_NODELAY, and tries before it waits.
func serve(c net.Conn) {
	buf := make([]byte, requestMax)
	for {
		n, err := c.Read(buf)
		if err != nil {
			break
		}
		if _, err = c.Write(buf[:n]); err != nil {
			break
		}
	}
	c.Close()
}

func echo([]int) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		c, err := listener.Accept()
		must(err)
		go serve(c)
	}
}

const fileBytes = 16 << 20 // FILE_BYTES of bench.h

func tempFile() *os.File {
	f, err := os.CreateTemp("", "weald-bench")
	must(err)
	os.Remove(f.Name())
	_, err = f.Write(make([]byte, fileBytes))
	must(err)
	return f
}

// The copy is a sendfile, because both ends allow it.
func file([]int) {
	f := tempFile()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	c, err := listener.Accept()
	must(err)
	for buf := make([]byte, 1); ; {
		if _, err := c.Read(buf); err != nil {
			return
		}
		f.Seek(0, io.SeekStart)
		_, err = io.Copy(c, f)
		must(err)
	}
}

func connects(n []int) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	to := listener.Addr().String()
	t0 := cpuNs()
	for i := 0; i < n[0]; i++ {
		c, err := net.Dial("tcp4", to)
		must(err)
		far, err := listener.Accept()
		must(err)
		far.(*net.TCPConn).SetLinger(0)
		far.Close()
		c.Close()
	}
	reportNs("ns", t0, n[0])
}

func childrenNs() float64 {
	var r syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r))
	return float64(r.Utime.Nano() + r.Stime.Nano())
}

func process(n []int) {
	must(exec.Command("/bin/true").Run())
	own, children := cpuNs(), childrenNs()
	for i := 0; i < n[0]; i++ {
		must(exec.Command("/bin/true").Run())
	}
	own, children = cpuNs()-own, childrenNs()-children
	report("own", own/float64(n[0]))
	report("both", (own+children)/float64(n[0]))
}

func idle([]int) {
	near, _ := openPair()
	fmt.Println("ready")
	readByte(near, make([]byte, 1))
}

var rows = map[string]func([]int){
	"yield": yield, "spawn": spawn, "park": park, "sleep": sleeps,
	"rendezvous": rendezvous, "queue": queue, "semaphore": semaphore, "mutex": mutex,
	"pingpong": pingpong, "ring": ring, "idle": idle, "echo": echo, "file": file, "connect": connects,
	"process": process,
}

func main() {
	numbers := make([]int, 4)
	for i := 2; i < len(os.Args) && i < 6; i++ {
		numbers[i-2], _ = strconv.Atoi(os.Args[i])
	}
	if len(os.Args) < 2 || rows[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go_bench ROW [NUMBER...]")
		os.Exit(2)
	}
	rows[os.Args[1]](numbers)
}
