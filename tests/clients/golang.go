// A tour through go-libvirt, which speaks the protocol itself: prints what it sees of the hypervisor at the URI in its
// first argument, through the socket in its second.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

const domainXML = `<domain type='test'>
  <name>go</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>`

func must(err error) {
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
}

func show(what string, err error, values ...interface{}) {
	must(err)
	fmt.Println(append([]interface{}{what}, values...)...)
}

func main() {
	conn := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(os.Args[2])))
	must(conn.ConnectToURI(libvirt.ConnectURI(os.Args[1])))
	events, err := conn.LifecycleEvents(context.Background())
	must(err)

	kind, err := conn.ConnectGetType()
	show("type", err, kind)
	version, err := conn.ConnectGetVersion()
	show("version", err, version)
	library, err := conn.ConnectGetLibVersion()
	show("library", err, library)
	_, memory, cpus, mhz, nodes, sockets, cores, threads, err := conn.NodeGetInfo()
	show("node", err, memory, cpus, mhz, nodes, sockets, cores, threads)
	capabilities, err := conn.ConnectGetCapabilities()
	show("capabilities", err, capabilities)
	domains, count, err := conn.ConnectListAllDomains(1, 0)
	show("domains", err, domains, count)
	pools, count, err := conn.ConnectListAllStoragePools(1, 0)
	show("pools", err, len(pools), pools[0].Name, count)

	dom, err := conn.DomainDefineXML(domainXML)
	show("defined", err, dom.Name, dom.ID)
	must(conn.DomainCreate(dom))
	state, reason, err := conn.DomainGetState(dom, 0)
	show("state", err, state, reason)
	must(conn.DomainSuspend(dom))
	must(conn.DomainResume(dom))
	params, err := conn.DomainGetSchedulerParameters(dom, 16)
	show("scheduler", err, params)
	stats, err := conn.ConnectGetAllDomainStats([]libvirt.Domain{dom}, uint32(libvirt.DomainStatsState), 0)
	show("stats", err, stats[0].Params)
	text, err := conn.DomainGetXMLDesc(dom, 0)
	show("xml", err, text)

	pool, err := conn.StoragePoolLookupByName("default-pool")
	must(err)
	vol, err := conn.StorageVolCreateXML(pool, "<volume><name>go.img</name><capacity>1024</capacity></volume>", 0)
	show("volume", err, vol.Name, vol.Key)
	show("upload refused", nil, conn.StorageVolUpload(vol, strings.NewReader("bytes"), 0, 0, 0))
	show("download refused", nil, conn.StorageVolDownload(vol, &bytes.Buffer{}, 0, 0, 0))

	must(conn.DomainDestroy(dom))
	must(conn.DomainUndefine(dom))
	_, err = conn.DomainLookupByName("go")
	failure := err.(libvirt.Error)
	show("error", nil, failure.Code, failure.Message)

	for {
		event := <-events
		show("event", nil, event.Dom.Name, event.Event, event.Detail)
		if event.Event == int32(libvirt.DomainEventUndefined) {
			break
		}
	}
	must(conn.Disconnect())
	fmt.Println("done")
}
