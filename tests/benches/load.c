/* load URI CALL CONNECTIONS SECONDS [DOMAINS]
 *
 * Calls a daemon through libvirt's own C library, one thread per connection, as fast as answers come. First defines
 * DOMAINS domains, which the connections keep: the test hypervisor forgets them with the last one.
 * Prints one line: calls per second, median latency and 99th percentile in microseconds. The latency is the call's own;
 * giving back what it returned, in which the daemon has no part, is not in it.
 */
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct worker {
    pthread_t thread;
    virConnectPtr connection;
    double *latencies; /* microseconds */
    size_t count, room;
};

/* What a call returned, to be given back. */
struct answer {
    virDomainPtr *domains;
    virDomainStatsRecordPtr *stats;
    char *text;
    int count;
};

static atomic_int stop;
static int (*call)(virConnectPtr, struct answer *);

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, virGetLastErrorMessage());
    exit(1);
}

static double microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int lib_version(virConnectPtr connection, struct answer *answer)
{
    unsigned long version;
    (void)answer;
    return virConnectGetLibVersion(connection, &version);
}

static int list_all_domains(virConnectPtr connection, struct answer *answer)
{
    return answer->count = virConnectListAllDomains(connection, &answer->domains, 0);
}

static int all_domain_stats(virConnectPtr connection, struct answer *answer)
{
    return virConnectGetAllDomainStats(connection, 0, &answer->stats, 0);
}

static int xml_desc(virConnectPtr connection, struct answer *answer)
{
    static virDomainPtr domain;
    if (!domain && !(domain = virDomainLookupByName(connection, "load-0")))
        return -1;
    answer->text = virDomainGetXMLDesc(domain, 0);
    return answer->text ? 0 : -1;
}

static int define_undefine(virConnectPtr connection, struct answer *answer)
{
    (void)answer;
    virDomainPtr domain = virDomainDefineXML(connection,
        "<domain type='test'><name>passing</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>");
    if (!domain || virDomainUndefine(domain) < 0)
        return -1;
    return virDomainFree(domain);
}

static void release(struct answer *answer)
{
    if (answer->stats)
        virDomainStatsRecordListFree(answer->stats);
    free(answer->text);
    for (int i = 0; i < answer->count; i++)
        virDomainFree(answer->domains[i]);
    free(answer->domains);
}

static const struct { const char *name; int (*call)(virConnectPtr, struct answer *); } calls[] = {
    {"lib-version", lib_version},
    {"list-all-domains", list_all_domains},
    {"all-domain-stats", all_domain_stats},
    {"xml-desc", xml_desc},
    {"define-undefine", define_undefine},
};

static void define(virConnectPtr connection, int number)
{
    char xml[256];
    snprintf(xml, sizeof xml,
             "<domain type='test'><name>load-%d</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
             "<os><type>hvm</type></os></domain>", number);
    virDomainPtr domain = virDomainDefineXML(connection, xml);
    if (!domain)
        die("define");
    virDomainFree(domain);
}

static void *work(void *data)
{
    struct worker *worker = data;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        struct answer answer = {0};
        double begin = microseconds();
        if (call(worker->connection, &answer) < 0)
            die("call");
        double latency = microseconds() - begin;
        release(&answer);
        if (worker->count == worker->room) {
            worker->room = worker->room ? worker->room * 2 : 4096;
            worker->latencies = realloc(worker->latencies, worker->room * sizeof *worker->latencies);
            if (!worker->latencies)
                die("memory");
        }
        worker->latencies[worker->count++] = latency;
    }
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void quiet(void *data, virErrorPtr error) { (void)data; (void)error; }

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: load URI CALL CONNECTIONS SECONDS [DOMAINS]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, argv[2]))
            call = calls[i].call;
    size_t connections = strtoul(argv[3], NULL, 10);
    if (!call || !connections) {
        fprintf(stderr, "load: no such call, or no connections\n");
        return 2;
    }
    virSetErrorFunc(NULL, quiet);
    struct worker *workers = calloc(connections, sizeof *workers);
    if (!workers)
        die("memory");
    for (size_t i = 0; i < connections; i++)
        if (!(workers[i].connection = virConnectOpen(argv[1])))
            die("open");
    for (int i = 0, count = argc > 5 ? atoi(argv[5]) : 0; i < count; i++)
        define(workers[0].connection, i);

    double begin = microseconds();
    for (size_t i = 0; i < connections; i++)
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    usleep(atof(argv[4]) * 1e6);
    atomic_store(&stop, 1);
    size_t count = 0;
    for (size_t i = 0; i < connections; i++) {
        pthread_join(workers[i].thread, NULL);
        count += workers[i].count;
    }
    double seconds = (microseconds() - begin) / 1e6;

    double *all = malloc(count * sizeof *all);
    if (!all)
        die("memory");
    size_t at = 0;
    for (size_t i = 0; i < connections; i++) {
        memcpy(all + at, workers[i].latencies, workers[i].count * sizeof *all);
        at += workers[i].count;
        virConnectClose(workers[i].connection);
    }
    qsort(all, count, sizeof *all, ascending);
    printf("%.0f %.2f %.2f\n", count / seconds, all[count / 2], all[count * 99 / 100]);
    return 0;
}
