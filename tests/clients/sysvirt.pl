# A tour through Sys::Virt: prints what it sees of the hypervisor at the URI in its first argument.
use strict;
use warnings;

use Sys::Virt;
use Sys::Virt::Domain;

$| = 1;

my $xml = <<'XML';
<domain type='test'>
  <name>perl</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>
XML

Sys::Virt::Event::register_default();
my $connection = Sys::Virt->new(uri => $ARGV[0]);
my @events;
my $callback = $connection->domain_event_register_any(undef, Sys::Virt::Domain::EVENT_ID_LIFECYCLE, sub {
    my (undef, $domain, $event, $detail) = @_;
    push @events, [$domain->get_name, $event, $detail];
});

# Events come in their order, so that of a definition's end is the last.
sub wait_for_end {
    Sys::Virt::Event::run_default() until @events && $events[-1][1] == Sys::Virt::Domain::EVENT_UNDEFINED;
}

sub show {
    my ($what, $value) = @_;
    if (ref $value eq 'HASH') {
        # Processor time is what the clock says.
        print "$what ", join(' ', map { "$_=$value->{$_}" } grep { !/[tT]ime/ } sort keys %$value), "\n";
    } else {
        print "$what $value\n";
    }
}

show('type', $connection->get_type);
show('version', $connection->get_version);
show('library', $connection->get_library_version);
show('hostname', length $connection->get_hostname);
show('node', $connection->get_node_info);
show('domains', join ' ', sort map { $_->get_name } $connection->list_all_domains);
show('networks', join ' ', sort map { $_->get_name } $connection->list_all_networks);
show('pools', join ' ', sort map { $_->get_name } $connection->list_all_storage_pools);

my $domain = $connection->define_domain($xml);
$domain->create;
show('info', $domain->get_info);
show('state', join ' ', $domain->get_state);
$domain->suspend;
$domain->resume;
show('scheduler', $domain->get_scheduler_parameters);
$domain->set_scheduler_parameters({ Sys::Virt::Domain::SCHEDULER_WEIGHT => 30 });
show('scheduler', $domain->get_scheduler_parameters);
$domain->set_metadata(Sys::Virt::Domain::METADATA_TITLE, 'a title', undef, undef);
show('title', $domain->get_metadata(Sys::Virt::Domain::METADATA_TITLE, undef));
show('xml', $domain->get_xml_description);
my @stats = $connection->get_all_domain_stats(Sys::Virt::Domain::STATS_STATE, [$domain]);
show('stats', $stats[0]{data});

my $pool = $connection->get_storage_pool_by_name('default-pool');
my $volume = $pool->create_volume('<volume><name>perl.img</name><capacity unit="MiB">3</capacity></volume>');
show('volume', $volume->get_info);
$volume->delete;

$domain->destroy;
$domain->undefine;
eval { $connection->get_domain_by_name('perl') };
show('error', join ' ', $@->code, $@->domain, $@->message);

wait_for_end();
$connection->domain_event_deregister_any($callback);
print "event @$_\n" for @events;
print "done\n";
