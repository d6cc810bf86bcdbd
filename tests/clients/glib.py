"""A tour through libvirt-glib by introspection: prints what it sees of the hypervisor at the URI in its first argument."""

import sys

import gi

gi.require_version("LibvirtGConfig", "1.0")
gi.require_version("LibvirtGLib", "1.0")
gi.require_version("LibvirtGObject", "1.0")
from gi.repository import GLib, LibvirtGConfig, LibvirtGLib, LibvirtGObject  # noqa: E402

XML = """<domain type='test'>
  <name>glib</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>"""

LibvirtGLib.init(None)
LibvirtGLib.event_register()
loop = GLib.MainLoop()
events = []


def show(what, *values):
    print(what, *values, flush=True)


connection = LibvirtGObject.Connection.new(sys.argv[1])


def opened(_connection, result):
    connection.open_finish(result)
    loop.quit()


connection.open_async(None, opened)
loop.run()
awaited = None


def happened(event):
    events.append(event)
    if event == awaited:
        loop.quit()


def wait_for(event):
    global awaited
    awaited = event
    if event not in events:
        loop.run()


connection.connect("domain-added", lambda _, domain: happened(f"added {domain.get_name()}"))
connection.connect("domain-removed", lambda _, domain: happened(f"removed {domain.get_name()}"))
connection.fetch_domains(None)
connection.fetch_storage_pools(None)
show("version", connection.get_version(), connection.get_hypervisor_name())
node = connection.get_node_info()
show("node", node.memory, node.cpus, node.sockets, node.cores, node.threads)
show("domains", sorted(domain.get_name() for domain in connection.get_domains()))
show("pools", sorted(pool.get_name() for pool in connection.get_storage_pools()))
show("capabilities", connection.get_capabilities().to_xml())

domain = connection.create_domain(LibvirtGConfig.Domain.new_from_xml(XML))
for signal in ["started", "suspended", "resumed", "stopped"]:
    domain.connect(signal, lambda *_, signal=signal: happened(signal))
domain.start(0)
show("info", domain.get_info().state, domain.get_info().memory, domain.get_info().nrVirtCpu)
domain.suspend()
domain.resume()
show("xml", domain.get_config(0).to_xml())
domain.stop(0)
# An event that comes after the domain has gone would be taken for its removal.
wait_for("stopped")
try:
    domain.suspend()
except GLib.Error as error:
    show("error", error.domain, error.code, error.message)
domain.delete(0)
wait_for("removed glib")
show("\n".join(events))
show("done")
