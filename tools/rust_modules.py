"""Reads the modules of a Rust crate, without a compiler: what each declares, imports and mentions."""

import re
import tomllib

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<raw>b?r(?P<hashes>\#*)".*?"(?P=hashes))|b?"(?:\\.|[^"\\])*"
    |b?'(?:\\.[^']*|[^\\'])'|'\w+|(?:r\#)?\w+|::|.""",
    re.DOTALL | re.VERBOSE,
)
WORD = re.compile(r"[A-Za-z_]\w*$")
ITEMS = {"fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"}


class Module:
    """What a module declares, imports and mentions. `folder` is where its children's files are."""

    def __init__(self, file, folder, parent=None):
        self.file, self.folder, self.parent = file, folder, parent
        self.children, self.items, self.words = {}, set(), set()
        # Imports are (path, name here or "*", line, whether it is exported again); mentions are (path, line).
        self.imports, self.mentions = [], []

    def crate(self):
        return self.parent.crate() if self.parent else self

    def everywhere(self):
        yield self
        for child in self.children.values():
            yield from child.everywhere()

    def called(self, name, seen=()):
        """What `name` stands for in this module: modules, and files that define an item of that name."""
        if (self, name) in seen:
            return []
        seen = (*seen, (self, name))
        found = [self.children[name]] if name in self.children else []
        found += [self.file] if name in self.items else []
        for path, alias, *_ in self.imports:
            if alias == name:
                found += self.resolve(path, seen)
        for path, alias, *_ in self.imports:
            if alias == "*" and not found:
                modules = [to for to in self.resolve(path, seen) if isinstance(to, Module)]
                found += [it for module in modules for it in module.called(name, seen)]
        return found

    def resolve(self, path, seen=()):
        """Where a path leads: modules, and files that define an item; nothing for other crates."""
        start = {"crate": self.crate(), "self": self, "super": self.parent}.get(path[0])
        found = [start] if start else self.called(path[0], seen)
        for name in path[1:]:
            # Of a module and a function with one name only the module has more below it.
            modules = [it for it in found if isinstance(it, Module)]
            if not modules:
                return found
            found = []
            for module in modules:
                if name == "super":
                    found.append(module.parent)
                else:
                    # Unknown names come from a macro of that file.
                    found += module.called(name, seen) or [module.file]
        return found

    def edges(self):
        """Other files that this module imports from, each with the line that does."""
        yield from (imported := list(self.imported()))
        known = {self.file, *(to for to, _ in imported)}
        for path, line in self.mentions:
            yield from ((to, line) for to in self.resolve(path) if not isinstance(to, Module) and to not in known)

    def imported(self):
        for path, name, line, exported in self.imports:
            if name == "*":
                modules = [it for it in self.resolve(path) if isinstance(it, Module)]
                targets = [to for module in modules for word in self.words for to in module.called(word)]
            else:
                # To export again is no use; to mention the name as well is one.
                targets = self.resolve(path) if not exported or name in self.words else []
            yield from ((to, line) for to in targets if not isinstance(to, Module) and to != self.file)


class Reader:
    """Reads a file's tokens into a module."""

    def __init__(self, module):
        self.tokens, line = [], 1
        for match in TOKEN.finditer(module.file.read_text()):
            if match["skip"] is None:
                self.tokens.append((match[0].removeprefix("r#"), line))
            line += match[0].count("\n")
        self.at = 0
        self.body(module)

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else ""

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1][0]

    def body(self, module):
        """Reads to the end of the file, or past the closing brace of an inline module."""
        depth, place = 0, None
        while self.peek():
            line, before = self.tokens[self.at][1], self.tokens[self.at - 1][0] if self.at else ""
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth < 0:
                return
            if token == "#":
                start = self.at
                self.skip_item(one_group=True)
                attribute = [text for text, _ in self.tokens[start : self.at]]
                if "path" in attribute[:2]:
                    place = attribute[3].strip('"')
                elif "cfg" in attribute[:2] and "test" in attribute and "not" not in attribute:
                    self.skip_item()
            elif token == "use" and (WORD.match(self.peek()) or self.peek() in ("{", "::")):
                exported = before == ")" or before == "pub"
                self.use(module, [], line, exported)
            elif token == "mod" and WORD.match(self.peek()) and self.peek(1) in (";", "{"):
                name, inline = self.next(), self.next() == "{"
                module.children[name] = self.child(module, name, inline, place)
                place = None
            elif WORD.match(token):
                if token in ITEMS and depth == 0:
                    module.items.add(self.peek(1) if self.peek() in ("!", "mut", "fn") else self.peek())
                module.words.add(token)
                path = [token]
                while self.peek() == "::" and WORD.match(self.peek(1)) and before not in ("::", "."):
                    self.next()
                    path.append(self.next())
                if len(path) > 1:
                    module.mentions.append((path, line))

    def child(self, module, name, inline, place):
        if inline:
            child = Module(module.file, module.folder / name, module)
            self.body(child)
            return child
        if place:
            file = module.file.parent / place
            return read(file.resolve(), file.parent, module)
        file = module.folder / f"{name}.rs"
        if not file.exists():
            file = module.folder / name / "mod.rs"
        return read(file, module.folder / name, module)

    def skip_item(self, one_group=False):
        """Skips an item with its attributes, or the one group in brackets that comes next."""
        while not one_group and self.peek() == "#":
            self.next()
            self.skip_item(one_group=True)
        depth = 0
        while self.peek():
            token = self.next()
            depth += (token in "([{") - (token in ")]}")
            if depth == 0 and (token in "}" or token == ";" or (one_group and token == "]")):
                return

    def use(self, module, prefix, line, exported):
        """Reads the tree behind `use`, to its `;` or `,` or closing brace."""
        path = list(prefix)
        while self.peek() not in (";", ",", "}"):
            line = self.tokens[self.at][1]
            token = self.next()
            if token == "{":
                while self.peek() != "}":
                    self.use(module, path, line, exported)
                    if self.peek() == ",":
                        self.next()
                self.next()
                return
            if token in ("*", "as"):
                module.imports.append((path, "*" if token == "*" else self.next(), line, exported))
                return
            if token != "::" and (token != "self" or not path):
                path.append(token)
        module.imports.append((path, path[-1], line, exported))


def read(file, folder, parent=None):
    module = Module(file, folder, parent)
    Reader(module)
    return module


def edges(root):
    """The edges of every crate: libraries, programs, and tests, examples and benchmarks."""
    members = tomllib.loads((root / "Cargo.toml").read_text()).get("workspace", {}).get("members", ["."])
    for member in sorted({root / member for member in members}):
        for pattern in ("src/lib.rs", "src/main.rs", "tests/*.rs", "examples/*.rs", "benches/*.rs"):
            for file in sorted(member.glob(pattern)):
                for module in read(file, file.parent).everywhere():
                    yield from ((module.file, to, line) for to, line in module.edges())
