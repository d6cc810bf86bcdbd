"""Random elements by a RELAX NG schema of libvirt's, and the words that it has for attributes."""
import os
import re._constants as kinds
import re._parser as patterns
import xml.etree.ElementTree as ET

FOLDER = '/usr/share/libvirt/schemas'
SPACE = '{http://relaxng.org/ns/structure/1.0}'
# Better texts than a pattern gives, by the name of a definition.
TEXTS = {
    'absFilePath': ['/tmp/file', '/var/lib/libvirt/images/b.img', '/dev/vdx'], 'filePath': ['/tmp/f', 'rel'],
    'absDirPath': ['/tmp/dir'], 'dirPath': ['/tmp/dir'], 'UUID': ['5d2f1a3e-77f0-4b6e-9d0a-3f2b8c6e1a01'],
    'deviceName': ['eth0', 'tap1'], 'uniMacAddr': ['52:54:00:11:22:33'], 'macAddr': ['52:54:00:11:22:34'],
    'ipv4Addr': ['10.0.0.5', '127.0.0.1'], 'ipv6Addr': ['fe80::1', '::1'], 'ipAddr': ['10.0.0.7', 'fe80::2'],
    'dnsName': ['host.example'], 'diskTarget': ['vda', 'sda', 'hdc'], 'cpuset': ['0', '0-1', '1,3', '0-3,^2'],
    'PortNumber': ['5900', '80'], 'genericName': ['name'], 'objectName': ['other'], 'usbPort': ['1', '2.1'],
    'usbId': ['0x1234'], 'aliasName': ['ua-x', 'ua-y'],
}
DEEPEST = 12


def kind(node):
    return node.tag.replace(SPACE, '') if isinstance(node.tag, str) else 'comment'


class Grammar:
    """The definitions of a schema and of those that it includes."""

    def __init__(self, name):
        self.definitions = {}
        self.load(name)

    def load(self, name):
        self.take(ET.parse(os.path.join(FOLDER, name)).getroot())

    def take(self, node):
        for child in node:
            if kind(child) == 'include':
                self.load(child.get('href'))
                self.take(child)
            elif kind(child) == 'define':
                parts, name = list(child), child.get('name')
                if child.get('combine') and name in self.definitions:
                    both = ET.Element(SPACE + child.get('combine'))
                    both.extend(self.definitions[name] + parts)
                    parts = [both]
                self.definitions[name] = parts


def words(grammar):
    """The words that attributes can have: by element and attribute."""
    found, done = {}, set()

    def values(nodes, seen):
        for node in nodes:
            if kind(node) == 'value':
                yield node.text or ''
            elif kind(node) == 'ref' and node.get('name') not in seen:
                yield from values(grammar.definitions.get(node.get('name'), []), seen | {node.get('name')})
            elif kind(node) in ('choice', 'group', 'optional', 'oneOrMore', 'zeroOrMore', 'interleave'):
                yield from values(node, seen)

    def walk(nodes, element, seen):
        for node in nodes:
            what, name = kind(node), node.get('name')
            if what == 'element':
                if name and id(node) not in done:
                    done.add(id(node))
                    walk(node, name, set())
            elif what == 'attribute' and name and element:
                found.setdefault((element, name), set()).update(values(node, set()))
            elif what == 'ref':
                if (name, element) not in seen:
                    walk(grammar.definitions.get(name, []), element, seen | {(name, element)})
            else:
                walk(node, element, seen)

    for parts in list(grammar.definitions.values()):
        walk(parts, None, set())
    return {place: sorted(values)[:40] for place, values in found.items() if values}


class Sample:
    """Makes random elements."""

    def __init__(self, grammar, chance, often=0.3):
        self.grammar, self.chance, self.often, self.depth = grammar, chance, often, 0

    def make(self, definition):
        holder = ET.Element('holder')
        for node in self.grammar.definitions[definition]:
            self.fill(holder, node)
        return list(holder)

    def name(self, node):
        what = kind(node)
        if what == 'choice':
            return self.name(self.chance.choice(list(node)))
        return node.text if what == 'name' else 'any'

    def named(self, node):
        """The name of an element or attribute, and what is in it."""
        inner = list(node)
        return (node.get('name') or self.name(inner.pop(0))), inner

    def fill(self, element, node):
        what = kind(node)
        if what == 'element':
            name, inner = self.named(node)
            child = ET.SubElement(element, name)
            self.depth += 1
            for part in inner if self.depth < DEEPEST else []:
                self.fill(child, part)
            self.depth -= 1
        elif what == 'attribute':
            name, inner = self.named(node)
            element.set(name, self.text(inner))
        elif what in ('group', 'interleave', 'mixed'):
            for part in node:
                self.fill(element, part)
        elif what == 'choice':
            self.fill(element, self.chance.choice(list(node)))
        elif what in ('optional', 'zeroOrMore', 'oneOrMore'):
            times = 1 if what == 'oneOrMore' else 0
            if self.chance.random() < self.often:
                times += 1 if what == 'optional' else self.chance.choice([0, 1, 1, 2])
            for part in list(node) * times:
                self.fill(element, part)
        elif what == 'ref' and node.get('name') not in TEXTS:
            for part in self.grammar.definitions.get(node.get('name'), []):
                self.fill(element, part)
        elif what in ('ref', 'value', 'data', 'text', 'list'):
            element.text = (element.text or '') + self.text([node])

    def text(self, nodes):
        out = ''
        for node in nodes:
            what = kind(node)
            if what == 'value':
                out += node.text or ''
            elif what == 'text':
                out += self.chance.choice(['text', 'some text', '1', ''])
            elif what == 'choice':
                out += self.text([self.chance.choice(list(node))])
            elif what == 'ref':
                name = node.get('name')
                known = TEXTS.get(name)
                out += self.chance.choice(known) if known else self.text(self.grammar.definitions.get(name, []))
            elif what == 'data':
                out += self.data(node)
            else:
                out += self.text(list(node))
        return out

    def data(self, node):
        limits = {param.get('name'): param.text for param in node}
        pattern = limits.get('pattern')
        if pattern and pattern != '[0-9]+':
            return self.matching(patterns.parse(pattern))
        if node.get('type') in ('string', 'token', 'anyURI', 'NCName'):
            return self.chance.choice(['word', 'abc'])
        low = int(limits.get('minInclusive', 1 if node.get('type') == 'positiveInteger' else 0))
        high = int(limits.get('maxInclusive', 1 << 20))
        return str(self.chance.choice([low, min(low + 1, high), min(low + 7, high), high, self.chance.randint(low, high)]))

    def matching(self, items):
        """A text that a simple pattern takes."""
        out = ''
        for what, value in items:
            if what == kinds.LITERAL:
                out += chr(value)
            elif what == kinds.ANY:
                out += 'z'
            elif what == kinds.IN and value[0][0] == kinds.NEGATE:
                out += 'k'
            elif what == kinds.IN:
                one, of = self.chance.choice(value)
                out += chr(of) if one == kinds.LITERAL else chr(self.chance.randint(*of)) if one == kinds.RANGE else '1'
            elif what in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
                low, high, inner = value
                for _ in range(self.chance.randint(low, max(low, min(int(high), low + 4)))):
                    out += self.matching(inner)
            elif what == kinds.SUBPATTERN:
                out += self.matching(value[3])
            elif what == kinds.BRANCH:
                out += self.matching(self.chance.choice(value[1]))
        return out
