// Sends GET requests to a service of steerd with Apache HttpClient 5.
//
//   java -cp httpclient5.jar:httpcore5.jar:httpcore5-h2.jar:slf4j-api.jar Client.java URL [TTL [REQUESTS]]
//
// TTL is the TTL of the service, in seconds. Prints the status and the body of each reply. Copy `client`,
// `Retries`, `Budget` and the two lines about DNS at the top of `main`.
//
// The JDK's own clients are not suitable: java.net.http.HttpClient and HttpURLConnection try only the first
// address of an answer. No setting changes that.

import java.io.IOException;
import java.net.UnknownHostException;
import java.security.Security;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import javax.net.ssl.SSLException;
import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.config.ConnectionConfig;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.impl.DefaultHttpRequestRetryStrategy;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.core5.http.HttpRequest;
import org.apache.hc.core5.http.HttpResponse;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.protocol.HttpContext;
import org.apache.hc.core5.http.protocol.HttpCoreContext;
import org.apache.hc.core5.util.TimeValue;
import org.apache.hc.core5.util.Timeout;

public class Client {
    /** A client whose connections are closed after the TTL: a persistent connection never resolves again. */
    static CloseableHttpClient client(TimeValue ttl) {
        var connections = ConnectionConfig.custom()
            // Timeout for connecting to one address; the client tries all addresses of an answer. The default
            // is three minutes.
            .setConnectTimeout(Timeout.ofSeconds(1))
            .setSocketTimeout(Timeout.ofSeconds(5))
            .setTimeToLive(ttl)
            .build();
        var requests = RequestConfig.custom()
            // For a backend that accepts a connection and never answers. The default is three minutes.
            .setResponseTimeout(Timeout.ofSeconds(5))
            .build();
        return HttpClients.custom()
            .setConnectionManager(PoolingHttpClientConnectionManagerBuilder.create()
                .setDefaultConnectionConfig(connections)
                .setMaxConnPerRoute(16)
                .build())
            .setDefaultRequestConfig(requests)
            .setRetryStrategy(new Retries())
            .build();
    }

    /** Three retries with full jitter, only of idempotent requests, and within a budget. */
    static class Retries extends DefaultHttpRequestRetryStrategy {
        private final Budget budget = new Budget();

        Retries() {
            // Unlike the default, this also retries after a timeout and a refused connection.
            super(3, TimeValue.ofMilliseconds(200), List.of(UnknownHostException.class, SSLException.class), List.of(429, 502, 503, 504));
        }

        @Override
        public boolean retryRequest(HttpRequest request, IOException error, int attempt, HttpContext context) {
            return super.retryRequest(request, error, attempt, context) && budget.spend();
        }

        @Override
        public boolean retryRequest(HttpResponse reply, int attempt, HttpContext context) {
            boolean again = super.retryRequest(reply, attempt, context)
                // The default checks this only for errors, not for replies.
                && handleAsIdempotent(HttpCoreContext.adapt(context).getRequest())
                && budget.spend();
            if (attempt == 1 && !again) {
                budget.earn();
            }
            return again;
        }

        @Override
        public TimeValue getRetryInterval(HttpRequest request, IOException error, int attempt, HttpContext context) {
            return pause(attempt);
        }

        @Override
        public TimeValue getRetryInterval(HttpResponse reply, int attempt, HttpContext context) {
            return pause(attempt);
        }

        /** Any time up to a limit that doubles, so that clients that failed together do not retry together. */
        private static TimeValue pause(int attempt) {
            return TimeValue.ofMilliseconds(ThreadLocalRandom.current().nextLong(200L << (attempt - 1)));
        }
    }

    /**
     * Bounds the retries of a whole process: in an outage they must not double the load. A retry costs ten,
     * and a request that succeeds at once earns one: in the long run, one retry per ten requests.
     */
    static class Budget {
        private int spent;

        synchronized void earn() {
            spent = Math.max(0, spent - 1);
        }

        synchronized boolean spend() {
            if (spent > 90) {
                return false;
            }
            spent += 10;
            return true;
        }
    }

    public static void main(String[] arguments) throws Exception {
        int ttl = 20;
        int count = 1;
        try {
            if (arguments.length < 1 || arguments.length > 3) {
                throw new NumberFormatException();
            }
            ttl = arguments.length > 1 ? Integer.parseInt(arguments[1]) : ttl;
            count = arguments.length > 2 ? Integer.parseInt(arguments[2]) : count;
        } catch (NumberFormatException error) {
            System.err.println("usage: Client.java URL [TTL [REQUESTS]]");
            System.exit(2);
        }
        // Java caches an answer for 30 seconds regardless of its TTL, and with a security manager forever. The
        // resolver of the machine respects the TTL, so Java needs no cache: set this before the first lookup, or
        // in conf/security/java.security.
        Security.setProperty("networkaddress.cache.ttl", "1");
        Security.setProperty("networkaddress.cache.negative.ttl", "0");
        try (var client = client(TimeValue.ofSeconds(ttl))) {
            for (int request = 0; request < count; request++) {
                try {
                    String line = client.execute(new HttpGet(arguments[0]),
                        reply -> reply.getCode() + " " + EntityUtils.toString(reply.getEntity()));
                    System.out.println(line);
                } catch (IOException error) {
                    System.out.println("failed: " + error);
                }
                Thread.sleep(100);
            }
        }
    }
}
