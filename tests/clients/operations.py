"""Plays sessions of operations: operations.py URI ORDER ANSWER, the files as tests/src/diff has them."""

import json
import re
import sys
import threading

import libvirt

OBJECTS = {
    "virDomain": ("domain", "name"),
    "virNetwork": ("network", "name"),
    "virNetworkPort": ("network_port", "UUIDString"),
    "virStoragePool": ("storage_pool", "name"),
    "virStorageVol": ("storage_vol", "name"),
    "virInterface": ("interface", "name"),
    "virNodeDevice": ("node_device", "name"),
    "virSecret": ("secret", "usageID"),
    "virNWFilter": ("nwfilter", "name"),
    "virNWFilterBinding": ("nwfilter_binding", "portDev"),
    "virDomainSnapshot": ("domain_snapshot", "getName"),
    "virDomainCheckpoint": ("domain_checkpoint", "getName"),
}


def methods():
    """The binding's method for each function of the C library, by what its code calls."""
    found = {}
    for sort, kind in vars(libvirt).items():
        if isinstance(kind, type) and sort.startswith("vir"):
            for name, method in vars(kind).items():
                if hasattr(method, "__code__") and not name.startswith("__"):
                    for called in method.__code__.co_names:
                        if hasattr(libvirt.libvirtmod, called):
                            found.setdefault(called, (kind, method))
    return found


def canonical(value):
    sort = OBJECTS.get(type(value).__name__)
    if sort:
        return f"{sort[0]} {getattr(value, sort[1])()}"
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [canonical(item) for item in value]
        # Objects, and lists that begin with one, have no order.
        first = [item[0] if isinstance(item, tuple) else item for item in value]
        return sorted(items, key=str) if all(type(item).__name__ in OBJECTS for item in first) else items
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value


def untyped(value):
    if isinstance(value, dict):
        return {key.split(":")[0]: item for key, item in value.items()}
    return value


class Player:
    def __init__(self, uri, order):
        self.connection = libvirt.open(uri)
        self.order, self.methods = order, methods()
        self.events, self.fenced = [], threading.Event()
        self.register()

    def register(self):
        ways = {
            "domain": self.connection.domainEventRegisterAny,
            "network": self.connection.networkEventRegisterAny,
            "storage_pool": self.connection.storagePoolEventRegisterAny,
            "node_device": self.connection.nodeDeviceEventRegisterAny,
            "secret": self.connection.secretEventRegisterAny,
        }
        for number, (kind, count) in enumerate(self.order["events"]):
            for event in range(count):
                try:
                    ways[kind](None, event, self.happened, (number, kind, event))
                except (libvirt.libvirtError, KeyError, TypeError):
                    pass

    def happened(self, _connection, thing, *rest):
        *detail, (number, kind, event) = rest
        name = canonical(thing).split(" ", 1)[1] if thing is not None else ""
        if name == self.order["fence_name"]:
            if detail[0] == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
                self.fenced.set()
            return
        detail = " ".join(str(canonical(item)) for item in detail)
        self.events.append((number, event, {"kind": f"{kind} {event}", "object": name, "detail": detail}))

    def play(self, session):
        names, outcomes = {}, []
        for step in session["steps"]:
            outcome, value = self.step(step, names)
            outcomes.append(outcome)
            if step["bind"] and value is not None:
                names[step["bind"]] = value
        names.clear()
        self.fenced.clear()
        self.connection.defineXML(self.order["fence"]).undefine()
        if not self.fenced.wait(30):
            raise SystemExit("the events of a session have no end")
        events, self.events = self.events, []
        events.sort(key=lambda event: event[:2])
        return {"outcomes": outcomes, "events": [event for _, _, event in events]}

    def step(self, step, names):
        args = []
        for arg in step["args"]:
            if "object" in arg and arg["object"] not in names:
                return {"unknown": f"no {arg['object']}"}, None
            args.append(names[arg["object"]] if "object" in arg else untyped(arg["value"]))
        if step["api"] not in self.methods:
            return {"unknown": "not in the binding"}, None
        kind, method = self.methods[step["api"]]
        # The binding has this one as a method of the domain.
        if step["api"] == "virDomainRevertToSnapshot":
            args.insert(0, args[0].getDomain())
        target = [self.connection] if kind is libvirt.virConnect else []
        try:
            value = method(*target, *args)
            return {"value": canonical(value)}, value
        except libvirt.libvirtError as error:
            if error.get_error_code() is None:
                return {"unknown": str(error)}, None
            return {
                "error": {
                    "code": error.get_error_code(),
                    "domain": error.get_error_domain(),
                    "level": error.get_error_level(),
                    "message": error.get_error_message(),
                }
            }, None
        except (TypeError, AttributeError, OverflowError) as error:
            return {"unknown": re.sub(r"0x\w+", "", str(error))}, None


def main(uri, order, answer):
    libvirt.registerErrorHandler(lambda _, __: None, None)
    libvirt.virEventRegisterDefaultImpl()
    loop = threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True)
    loop.start()
    with open(order, encoding="utf-8") as file:
        order = json.load(file)
    player = Player(uri, order)
    played = [player.play(session) for session in order["sessions"]]
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(played, file)
    player.connection.close()


main(*sys.argv[1:])
