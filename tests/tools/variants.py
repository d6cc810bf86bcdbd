#!/usr/bin/python3
"""Asks two daemons the same about many definitions of guests, and lists where their answers differ.

  variants.py URI_A URI_B broken FILE...    each definition, and its variants that are wrong in one place
  variants.py URI_A URI_B schema [PART]...  a small guest with random parts by libvirt's own schema
  variants.py URI_A URI_B parts FILE...     a small guest with each line of the files, one or more elements, as a part
  variants.py URI_A URI_B asis FILE...      each definition as it is

Compared are: accepted or refused, code, domain and words of the error, the stored definition, the command line. Differences
are grouped, the most frequent first. --count N random parts of each kind, --seed N, --share 0..1 of all variants,
--only REGEX what a variant is called, --show N examples, --arch and --machine of the small guest, --type its hypervisor.
--kind network (or pool, nwfilter, secret, interface) for definitions of that kind instead of guests.
A daemon that ends is started again with --again 'COMMAND A|B'.

Needs libvirt's Python binding, and for the variants libvirt's schemas; these are read, nothing of them is kept.
Use daemons with nothing defined: a guest called "variant" is defined and removed again and again.
"""
import argparse
import collections
import copy
import difflib
import os
import random
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import libvirt

import schema

QEMU = 'http://libvirt.org/schemas/domain/qemu/1.0'
UUID = '3c1b7a52-0e5b-4d52-9a51-6f0f6f1d2c11'
GUEST = f"""<domain type='%s'><name>variant</name><uuid>{UUID}</uuid><memory unit='MiB'>1024</memory><vcpu>4</vcpu>
<os><type arch='%s'%s>hvm</type></os>%s<devices/></domain>"""
# Definitions in the schema, of parts that stand beside <devices> and of such that stand in it.
BESIDE = ['clock', 'events', 'features', 'guestcpu', 'idmap', 'keywrap', 'launchSecurity', 'os', 'perf', 'pm', 'qemuoverride',
          'resources', 'seclabel', 'sysinfo', 'throttlegroups']
# Elements that stand beside <devices>.
BESIDE_ELEMENTS = set("""blkiotune bootloader capabilities clock commandline cpu cputune currentMemory defaultiothread deprecation
description features genid idmap iothreadids iothreads keywrap launchSecurity maxMemory memory memoryBacking memtune metadata
numatune on_crash on_lockfailure on_poweroff on_reboot os override perf pm resource seclabel sysinfo throttlegroups title vcpu
vcpus""".split())
# Of other kinds of definitions: how they are looked up, defined, shown and removed.
KINDS = {
    'network': ('network.rng', 'networkDefineXML', 'XMLDesc', 'undefine'),
    'pool': ('storagepool.rng', 'storagePoolDefineXML', 'XMLDesc', 'undefine'),
    'nwfilter': ('nwfilter.rng', 'nwfilterDefineXML', 'XMLDesc', 'undefine'),
    'secret': ('secret.rng', 'secretDefineXML', 'XMLDesc', 'undefine'),
    'interface': ('interface.rng', 'interfaceDefineXML', 'XMLDesc', 'undefine'),
}
DEVICES = ['disk', 'controller', 'lease', 'filesystem', 'interface', 'input', 'sound', 'audio', 'hostdev', 'graphic',
           'video', 'console', 'parallel', 'serial', 'channel', 'smartcard', 'hub', 'redirdev', 'redirfilter', 'rng',
           'tpm', 'shmem', 'memorydev', 'crypto', 'watchdog', 'memballoon', 'nvram', 'panic', 'iommu', 'vsock', 'pstore']
ODD = ['', 'bogus', '-1', '0', '1', '3', '4294967296', '99999999999999999999']
# What undefining takes along, as far as a daemon knows it: managed save, snapshots, NVRAM, checkpoints, TPM.
EVERYTHING = 1 | 2 | 4 | 16 | 32


class Daemon:
    def __init__(self, uri, again):
        self.uri, self.again = uri, again
        self.connection = libvirt.open(uri)

    def is_gone(self):
        try:
            return not self.connection.isAlive()
        except libvirt.libvirtError:
            return True

    def come_back(self):
        if self.again:
            subprocess.run(self.again, shell=True, check=False)
        for _ in range(100):
            try:
                self.connection = libvirt.open(self.uri)
                return
            except libvirt.libvirtError:
                time.sleep(0.2)
        sys.exit(f'{self.uri} has ended')

    def ask_other(self, text, kind):
        """The error (code, domain, message), or the definition."""
        _, define, show, remove = KINDS[kind]
        try:
            thing = getattr(self.connection, define)(text)
            stored = getattr(thing, show)(0)
            getattr(thing, remove)()
        except libvirt.libvirtError as error:
            if self.is_gone():
                self.come_back()
                return 'gone', None
            return 'refused', (error.get_error_code(), error.get_error_domain(), error.get_error_message())
        return 'stored', (stored, '')

    def ask(self, text):
        """The error (code, domain, message), or the definition and the command line."""
        try:
            guest = self.connection.defineXMLFlags(text, 0)
        except libvirt.libvirtError as error:
            if self.is_gone():
                self.come_back()
                return 'gone', None
            return 'refused', (error.get_error_code(), error.get_error_domain(), error.get_error_message())
        stored = guest.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE)
        try:
            guest.undefineFlags(EVERYTHING)
        except libvirt.libvirtError:
            guest.undefine()
        # libvirtd ends when it is asked for the command line of such an interface.
        if re.search(r"<interface[^>]*type=['\"]hostdev", text):
            return 'stored', (stored, '')
        try:
            line = self.connection.domainXMLToNative('qemu-argv', text, 0)
        except libvirt.libvirtError as error:
            if self.is_gone():
                self.come_back()
                return 'stored', (stored, 'gone')
            line = f'refused: {error.get_error_code()} {error.get_error_domain()} {error.get_error_message()}'
        return 'stored', (stored, line)


def general(text):
    """A message without what is particular to one variant."""
    return re.sub(r'\b(0x)?[0-9a-f]*[0-9][0-9a-f]*\b', '#', re.sub(r"'[^']*'", "'_'", text or ''))[:170]


def steady(text):
    """An answer without what is new every time."""
    text = re.sub(r'52:54:00(:[0-9a-f]{2}){3}', 'MAC', text)
    text = re.sub(r'"(data|iv)":"[^"]*"', r'"\1":"_"', text)
    text = re.sub(r'(fds?|vhostfds?)("?[:=]"?)[\d:]+', r'\1\2N', text)
    text = re.sub(r'domain--?\d+-', 'domain-N-', text)
    return re.sub(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', lambda found: found[0] if found[0] == UUID else 'UUID', text)


def changes(a, b):
    lines = difflib.unified_diff(a.splitlines(), b.splitlines(), n=0, lineterm='')
    return [line for line in lines if not line.startswith(('---', '+++', '@@'))]


class Report:
    def __init__(self):
        self.counts = collections.Counter()
        self.groups = {}

    def add(self, kind, key, name):
        self.counts[kind] += 1
        self.groups.setdefault((kind, key), []).append(name)

    def compare(self, a, b, name):
        self.counts['asked'] += 1
        (how_a, what_a), (how_b, what_b) = a, b
        if 'gone' in (how_a, how_b):
            return self.add('a daemon ended', f'{how_a} / {how_b}', name)
        said = [f'{what[0]}/{what[1]} {general(what[2])}' if how == 'refused' else 'accepted'
                for how, what in (a, b)]
        if how_a != how_b or how_a == 'refused' and what_a[:2] != what_b[:2]:
            return self.add('other outcome', '\n      '.join(said), name)
        if how_a == 'refused':
            if steady(what_a[2]) != steady(what_b[2]):
                self.add('other words', '\n      '.join(general(what[2]) for what in (what_a, what_b)), name)
            return None
        for kind, x, y in zip(('other definition', 'other command line'), what_a, what_b):
            if kind == 'other command line':
                x, y = (re.sub(r' (-[a-z])', r'\n\1', text) for text in (x, y))
            found = changes(steady(x), steady(y))
            if found and 'gone' not in (x, y):
                key = '\n      '.join(re.sub(r'\d+', '#', line) for line in found[:6])
                return self.add(kind, key, name)
        return None

    def show(self, examples):
        print(', '.join(f'{count} {kind}' for kind, count in self.counts.items()))
        for (kind, key), names in sorted(self.groups.items(), key=lambda group: -len(group[1])):
            print(f'{len(names):5} × {kind}\n      {key}')
            print('      e.g. ' + ' | '.join(list(dict.fromkeys(names))[:examples]))


def places(element, way=()):
    for index, child in enumerate(element):
        yield way + (index,)
        yield from places(child, way + (index,))


def at(element, way):
    for index in way:
        element = element[index]
    return element


def label(root, way):
    return ''.join('/' + at(root, way[:n]).tag.split('}')[-1] for n in range(1, len(way) + 1))


def broken(root, known):
    """Variants of a definition that are wrong in one place, with a name."""
    for way in list(places(root)):
        here, name = at(root, way), label(root, way)

        def variant(what, change):
            tree = copy.deepcopy(root)
            change(at(tree, way), at(tree, way[:-1]))
            return f'{name} {what}', tree

        if name not in ('/name', '/uuid'):
            yield variant('removed', lambda it, above: above.remove(it))
            yield variant('doubled', lambda it, above: above.insert(list(above).index(it), copy.deepcopy(it)))
            yield variant('emptied', lambda it, above: it.clear())
        if len(here):
            yield variant('childless', lambda it, above: [it.remove(child) for child in list(it)])
        elif (here.text or '').strip() and name != '/name':
            for value in ODD:
                yield variant(f'= {value!r}', lambda it, above, value=value: setattr(it, 'text', value))
        for attribute in list(here.attrib):
            yield variant(f'@{attribute} removed', lambda it, above: it.attrib.pop(attribute))
            for value in dict.fromkeys(ODD + known.get((here.tag, attribute), [])):
                if value != here.get(attribute):
                    yield variant(f'@{attribute}={value!r}', lambda it, above, value=value: it.set(attribute, value))
        for (tag, attribute), values in known.items():
            if tag == here.tag and attribute not in here.attrib:
                for value in values[:6]:
                    yield variant(f'+@{attribute}={value!r}', lambda it, above, value=value: it.set(attribute, value))


def small_guest(options):
    machine = options.machine and f" machine='{options.machine}'"
    acpi = '<features><acpi/></features>' if options.arch == 'x86_64' else ''
    return ET.fromstring(GUEST % (options.type, options.arch, machine, acpi))


def put_in(root, element):
    """Puts a part of a definition where it belongs."""
    if element.tag.split('}')[-1] not in BESIDE_ELEMENTS:
        root.find('devices').append(element)
        return
    for other in root.findall(element.tag):
        if element.tag == 'os' and element.find('type') is None:
            element.insert(0, other.find('type'))
        root.remove(other)
    root.append(element)


def lines(path, options):
    """A small guest with each line of a file."""
    with open(path, encoding='utf-8') as text:
        for line in filter(str.strip, text):
            root = small_guest(options)
            for element in ET.fromstring(f'<parts>{line}</parts>'):
                put_in(root, element)
            yield line.strip(), root


def random_parts(parts, options, chance):
    grammar = schema.Grammar('domain.rng')
    for part in parts:
        for _ in range(options.count):
            root = small_guest(options)
            made = schema.Sample(grammar, chance).make(part)
            for element in made:
                put_in(root, element)
            yield part + ' ' + ' '.join(ET.tostring(element).decode() for element in made)[:300], root


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('a')
    parser.add_argument('b')
    parser.add_argument('mode', choices=['broken', 'schema', 'parts', 'asis'])
    parser.add_argument('inputs', nargs='*')
    parser.add_argument('--count', type=int, default=100)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--share', type=float, default=1)
    parser.add_argument('--only')
    parser.add_argument('--show', type=int, default=3)
    parser.add_argument('--arch', default='x86_64')
    parser.add_argument('--machine', default='')
    parser.add_argument('--type', default='kvm')
    parser.add_argument('--kind', choices=sorted(KINDS))
    parser.add_argument('--again')
    options = parser.parse_args()
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    ET.register_namespace('qemu', QEMU)
    chance = random.Random(options.seed)
    daemons = [Daemon(uri, options.again and f'{options.again} {side}')
               for side, uri in (('A', options.a), ('B', options.b))]
    report = Report()

    def cases():
        if options.mode == 'schema':
            parts = options.inputs or DEVICES + BESIDE
            yield from random_parts(parts, options, chance)
            return
        if options.mode == 'parts':
            for path in options.inputs:
                yield from lines(path, options)
            return
        grammar = KINDS[options.kind][0] if options.kind else 'domain.rng'
        known = schema.words(schema.Grammar(grammar)) if options.mode == 'broken' else {}
        for path in options.inputs:
            root = ET.parse(path).getroot()
            yield os.path.basename(path), root
            if options.mode == 'broken':
                yield from broken(root, known)

    for name, tree in cases():
        if options.only and not re.search(options.only, name) or chance.random() >= options.share:
            continue
        text = ET.tostring(tree).decode()
        ask = (lambda daemon: daemon.ask_other(text, options.kind)) if options.kind else lambda daemon: daemon.ask(text)
        report.compare(*map(ask, daemons), name)
    report.show(options.show)


main()
