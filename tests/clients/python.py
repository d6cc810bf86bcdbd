"""A tour through python3-libvirt: prints what it sees of the hypervisor at the URI in its first argument."""

import sys
import threading

import libvirt

XML = """<domain type='test'>
  <name>tour</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>"""

libvirt.registerErrorHandler(lambda _, __: None, None)
libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()

connection = libvirt.open(sys.argv[1])
events, last = [], threading.Event()


def on_event(_connection, domain, event, detail, _data):
    events.append(f"event {domain.name()} {event} {detail}")
    if event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
        last.set()


connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_event, None)

print("type", connection.getType(), connection.getVersion(), connection.getLibVersion())
print("info", connection.getInfo())
print("domains", sorted(domain.name() for domain in connection.listAllDomains()))
print("networks", sorted(network.name() for network in connection.listAllNetworks()))
print("pools", sorted(pool.name() for pool in connection.listAllStoragePools()))
print("interfaces", sorted(interface.name() for interface in connection.listAllInterfaces()))
print("devices", sorted(device.name() for device in connection.listAllDevices()))
print("capabilities", connection.getCapabilities())

domain = connection.defineXML(XML)
print("state", domain.state(), domain.isPersistent(), domain.autostart())
domain.create()
print("id", domain.ID() > 0, "info", domain.info()[:4])
domain.suspend()
print("state", domain.state())
domain.resume()
domain.setVcpus(1)
domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "a title", None, None)
print("xml", domain.XMLDesc())
snapshot = domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
print("snapshot", snapshot.getName(), domain.snapshotNum(), domain.snapshotListNames())
snapshot.delete()
domain.destroy()
print("state", domain.state())
domain.undefine()
try:
    connection.lookupByName("tour")
except libvirt.libvirtError as error:
    print("error", error.get_error_code(), error.get_error_domain(), error)

print("last event came", last.wait(30))
print("\n".join(events))
connection.close()
print("done")
