"""Runs tools/import-circles on small trees made up for it. Usage: python3 tools/test_import_circles.py"""

import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

TOOL = Path(__file__).parent / "import-circles"


def circles(files):
    """The tool's exit status, and what it prints on a workspace of these files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in {"Cargo.toml": "[package]\n", **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text))
        done = subprocess.run([sys.executable, TOOL, root], capture_output=True, text=True, check=False)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout


class Circles(unittest.TestCase):
    def none(self, files):
        self.assertEqual(circles(files)[0], 0, circles(files)[1])

    def one(self, files, *expected):
        status, text = circles(files)
        self.assertEqual(status, 1, text)
        self.assertIn("1 circles of imports", text)
        for part in expected:
            self.assertIn(part, text)

    def test_two_files_that_import_each_other(self):
        self.one(
            {
                "src/lib.rs": "mod a;\nmod b;\n",
                "src/a.rs": "use crate::b::B;\npub struct A(B);\n",
                "src/b.rs": "use std::fmt;\npub struct B;\nimpl B { fn a() -> crate::a::A { A(B) } }\n",
            },
            "a circle of 2 files: src/a.rs, src/b.rs",
            "src/a.rs:1 -> src/b.rs    use crate::b::B;",
            "src/b.rs:3 -> src/a.rs",
        )

    def test_exporting_again_is_no_use(self):
        self.none(
            {
                "src/lib.rs": "mod a;\nmod b;\npub use a::A;\npub use b::{B, other};\n",
                "src/a.rs": "pub struct A;\n",
                "src/b.rs": "use super::A;\npub fn other(_: A) {}\npub struct B;\n",
            }
        )

    def test_an_export_is_followed_to_the_definition(self):
        self.one(
            {
                "src/lib.rs": "mod a;\nmod b;\npub use b::*;\npub use a::A as Renamed;\n",
                "src/a.rs": "use crate::{B};\npub struct A(B);\n",
                "src/b.rs": "use super::Renamed;\npub struct B;\n",
            },
            "src/a.rs, src/b.rs",
        )

    def test_what_a_parent_defines_and_uses(self):
        files = {
            "src/lib.rs": "pub mod a;\n",
            "src/a/mod.rs": "mod b;\nuse b::B;\npub struct Options(B);\n",
            "src/a/b.rs": "use super::Options;\npub struct B;\nfn f(_: Options) {}\n",
        }
        self.one(files, "src/a/b.rs, src/a/mod.rs")
        # It may define them, if it uses nothing of its child.
        self.none({**files, "src/a/mod.rs": "mod b;\npub use b::B;\npub struct Options;\n"})

    def test_nested_groups_globs_modules_and_inline_modules(self):
        self.one(
            {
                "src/main.rs": "mod a;\nmod b;\nmod c;\n",
                "src/a.rs": "use crate::{\n    b::{self, x::{Y, Z}},\n};\npub fn f(_: Y) { b::g() }\n",
                "src/b.rs": "use super::c::*;\npub mod x { pub struct Y; pub struct Z; }\npub fn g() { h() }\n",
                "src/c.rs": "pub fn h() { super::a::f() }\npub fn unused() {}\n",
            },
            "src/a.rs, src/b.rs, src/c.rs",
            "src/b.rs:1 -> src/c.rs    use super::c::*;",
            "src/a.rs:2 -> src/b.rs",
        )

    def test_tests_comments_and_strings_are_left_aside(self):
        self.none(
            {
                "src/lib.rs": "mod a;\nmod b;\n#[cfg(test)]\nmod tests;\n",
                "src/a.rs": "use crate::b::B;\npub struct A(B);\npub const QUOTE: char = '\"';\n",
                "src/b.rs": """
                    pub struct B; // use crate::a::A;
                    const TEXT: &str = r#"use crate::a::A;"#;
                    fn life<'a>(x: &'a str) -> &'a str { x }
                    #[cfg(test)]
                    mod tests { use crate::a::A; }
                    /* use crate::a::A; */
                """,
            }
        )

    def test_crates_are_apart(self):
        self.none(
            {
                "Cargo.toml": '[workspace]\nmembers = [".", "net"]\n',
                "src/lib.rs": "pub mod a;\n",
                "src/a.rs": "use net::b::B;\npub struct A;\n",
                "net/src/lib.rs": "pub mod b;\n",
                "net/src/b.rs": "use other::a::A;\npub struct B;\n",
            }
        )

    def test_typescript(self):
        files = {
            "web/ts/a.ts": 'import { type B,\n  b } from "./b.js";\n',
            "web/ts/b.ts": 'export * from "./c.js";\n',
            "web/ts/c.ts": 'import "elsewhere";\n',
        }
        self.none(files)
        files["web/ts/c.ts"] = 'import type { A } from "./a.js";\n'
        self.one(files, "web/ts/a.ts, web/ts/b.ts, web/ts/c.ts")


if __name__ == "__main__":
    unittest.main()
