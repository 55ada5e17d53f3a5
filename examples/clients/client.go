// Sends GET requests to a service of steerd with Go's net/http.
//
//	go run client.go URL [TTL [REQUESTS]]
//
// TTL is the TTL of the service, in seconds. Prints the status and the body of each reply. Copy everything
// except main.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// Timeout for connecting to one address.
	connectTimeout = time.Second
	// Timeout for one request with all its attempts.
	requestTimeout = 20 * time.Second
	// The first attempt and three retries.
	attempts = 4
	// The maximum of the first pause. It doubles with each retry.
	pause = 200 * time.Millisecond
)

// walk connects to the first address of the answer that accepts. Go's own dialer tries all too, but divides
// one timeout among them, at least two seconds each: the first silent address may use all of it. Go's
// resolver caches nothing, so each call resolves again. Set resolver.PreferGo and resolver.Dial to use a
// certain server.
func walk(ctx context.Context, network, address string) (net.Conn, error) {
	var resolver net.Resolver
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := resolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	for _, address := range addresses {
		var connection net.Conn
		connection, err = dialer.DialContext(ctx, network, net.JoinHostPort(address.String(), port))
		if err == nil || ctx.Err() != nil {
			return connection, err
		}
	}
	return nil, fmt.Errorf("none of the %d addresses of %s takes a connection; the last one: %w", len(addresses), host, err)
}

// Budget bounds the retries of a whole process: in an outage they must not double the load. A retry
// costs ten, and a request earns one: in the long run, one retry per ten requests.
type Budget struct {
	mutex sync.Mutex
	spent int
}

func (b *Budget) earn() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.spent > 0 {
		b.spent--
	}
}

func (b *Budget) spend() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.spent > 90 {
		return false
	}
	b.spent += 10
	return true
}

// Steered sends requests over connections that it closes after the TTL: a persistent connection never
// resolves again. It is a http.RoundTripper.
type Steered struct {
	TTL        time.Duration
	mutex      sync.Mutex
	transport  *http.Transport
	freshUntil time.Time
	budget     Budget
}

// fresh is the current transport. The previous one finishes its requests and then closes its connections.
func (s *Steered) fresh() *http.Transport {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if now := time.Now(); s.transport == nil || now.After(s.freshUntil) {
		if s.transport != nil {
			s.transport.CloseIdleConnections()
		}
		s.transport = &http.Transport{
			DialContext:         walk,
			TLSHandshakeTimeout: 2 * time.Second,
			// For a backend that accepts a connection and never answers.
			ResponseHeaderTimeout: 5 * time.Second,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       s.TTL,
			ForceAttemptHTTP2:     true,
		}
		s.freshUntil = now.Add(s.TTL)
	}
	return s.transport
}

// RoundTrip sends a request, and repeats it if that is safe and within the budget.
func (s *Steered) RoundTrip(request *http.Request) (*http.Response, error) {
	s.budget.earn()
	most := pause
	for attempt := 1; ; attempt++ {
		reply, err := s.fresh().RoundTrip(request)
		again := err != nil || reply.StatusCode == 429 || reply.StatusCode >= 502 && reply.StatusCode <= 504
		if !again || attempt == attempts || !isRepeatable(request) || !s.budget.spend() {
			return reply, err
		}
		if reply != nil {
			reply.Body.Close()
		}
		// Full jitter: any time up to the limit, so that clients that failed together do not retry together.
		select {
		case <-time.After(time.Duration(rand.Int63n(int64(most)))):
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
		most *= 2
		if request.GetBody != nil {
			request = request.Clone(request.Context())
			if request.Body, err = request.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// isRepeatable tells whether a request may be sent twice: its method is idempotent, and its body can be read again.
func isRepeatable(request *http.Request) bool {
	switch request.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return request.Body == nil || request.Body == http.NoBody || request.GetBody != nil
	}
	return false
}

func main() {
	// Go seeds it by itself from version 1.20 on.
	rand.Seed(time.Now().UnixNano())
	ttl, count := 20, 1
	var ttlErr, countErr error
	if len(os.Args) > 2 {
		ttl, ttlErr = strconv.Atoi(os.Args[2])
	}
	if len(os.Args) > 3 {
		count, countErr = strconv.Atoi(os.Args[3])
	}
	if len(os.Args) < 2 || len(os.Args) > 4 || ttlErr != nil || countErr != nil {
		fmt.Fprintln(os.Stderr, "usage: client URL [TTL [REQUESTS]]")
		os.Exit(2)
	}
	client := http.Client{Transport: &Steered{TTL: time.Duration(ttl) * time.Second}, Timeout: requestTimeout}
	for ; count > 0; count-- {
		if reply, err := client.Get(os.Args[1]); err != nil {
			fmt.Println("failed:", err)
		} else {
			body, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			fmt.Println(reply.StatusCode, string(body))
		}
		time.Sleep(100 * time.Millisecond)
	}
}
