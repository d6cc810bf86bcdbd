//! XDR text into tokens. Comments are kept: libvirt's annotations live in them.

use std::fmt;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Name, Position, Result};

/// One token and where it starts.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it starts.
    pub position: Position,
}

/// What a token is.
#[derive(Clone, Debug)]
pub enum TokenKind {
    /// A name or keyword.
    Word(String),
    /// A decimal, octal or hexadecimal number, sign included.
    Number(i64),
    /// One of `{ } ( ) [ ] < > = ; : , *`.
    Punct(char),
    /// The lines of a comment that say something, without the stars they start with.
    Comment(Vec<Name>),
    /// The end of the file.
    End,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "'{word}'"),
            Self::Number(number) => write!(f, "'{number}'"),
            Self::Punct(char) => write!(f, "'{char}'"),
            Self::Comment(_) => f.write_str("a comment"),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// All tokens of `source`, the last of them [`TokenKind::End`]. Lines that begin with `%` belong to the C compiler
/// (RFC 4506 tools pass them through) and are left out.
pub fn tokens(file: &str, source: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { rest: source, file: file.into(), line: 1, column: 1 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = matches!(token.kind, TokenKind::End);
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    file: Arc<str>,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn position(&self) -> Position {
        Position { file: Arc::clone(&self.file), line: self.line, column: self.column }
    }

    /// Takes `len` bytes and keeps count of lines and columns.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        for char in taken.chars() {
            if char == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let len = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(len)
    }

    fn next(&mut self) -> Result<Token> {
        loop {
            self.take_while(char::is_whitespace);
            if self.column == 1 && self.rest.starts_with('%') {
                self.take_while(|c| c != '\n');
            } else {
                break;
            }
        }
        let position = self.position();
        let kind = match self.rest.chars().next() {
            None => TokenKind::End,
            Some('/') => self.comment(&position)?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                TokenKind::Word(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned())
            }
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(&position)?,
            Some(c) if "{}()[]<>=;:,*".contains(c) => {
                self.take(1);
                TokenKind::Punct(c)
            }
            Some(c) => {
                return Err(Diagnostic::new(&position, "a definition", format!("the character {c:?}")));
            }
        };
        Ok(Token { kind, position })
    }

    fn comment(&mut self, start: &Position) -> Result<TokenKind> {
        let len = if self.rest.starts_with("//") {
            self.rest.find('\n').unwrap_or(self.rest.len())
        } else if self.rest.starts_with("/*") {
            let end = self.rest[2..].find("*/").map(|end| end + 4);
            end.ok_or_else(|| Diagnostic::new(start, "'*/' to end this comment", "the end of the file"))?
        } else {
            return Err(Diagnostic::new(start, "a comment", "the character '/'"));
        };
        let frame = |c: char| c.is_whitespace() || c == '*' || c == '/';
        let mut inside = Lexer { rest: &self.rest[..len], file: Arc::clone(&self.file), ..*self };
        let mut said = Vec::new();
        while !inside.rest.is_empty() {
            inside.take_while(frame);
            let position = inside.position();
            let text = inside.take_while(|c| c != '\n').trim_end_matches(frame).to_owned();
            if !text.is_empty() {
                said.push(Name { text, position });
            }
        }
        self.take(len);
        Ok(TokenKind::Comment(said))
    }

    fn number(&mut self, position: &Position) -> Result<TokenKind> {
        let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        number(text)
            .map(TokenKind::Number)
            .ok_or_else(|| Diagnostic::new(position, "a number", format!("'{text}'")))
    }
}

/// `-1`, `16`, `020` and `0x10`, as C reads them.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let number = i64::try_from(parsed.ok()?).ok()?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line:column text` of each token.
    fn shown(source: &str) -> Vec<String> {
        let tokens = tokens("a.x", source).unwrap();
        let show = |token: &Token| {
            let text = match &token.kind {
                TokenKind::Comment(lines) => {
                    let lines = lines.iter().map(|line| format!("{}@{}", line.text, line.position));
                    lines.collect::<Vec<_>>().join("|")
                }
                other => other.to_string(),
            };
            format!("{}:{} {text}", token.position.line, token.position.column)
        };
        tokens.iter().map(show).collect()
    }

    #[test]
    fn tokens_know_where_they_start() {
        assert_eq!(
            shown("const A\n\t=  -7;"),
            ["1:1 'const'", "1:7 'A'", "2:2 '='", "2:5 '-7'", "2:7 ';'", "2:8 the end of the file"]
        );
        // Columns count characters, not bytes.
        assert_eq!(shown("/* é */ a")[1], "1:9 'a'");
    }

    #[test]
    fn lines_for_the_c_compiler_are_left_out() {
        assert_eq!(shown("%#include <a.h>\n  %\n".split('\n').next().unwrap()), ["1:16 the end of the file"]);
        assert_eq!(shown("%a b\n%c\nd"), ["3:1 'd'", "3:2 the end of the file"]);
        // Only at the start of a line.
        assert_eq!(
            tokens("a.x", " %a").unwrap_err().to_string(),
            "a.x:1:2: expected a definition, found the character '%'"
        );
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (text, number) in [
            ("0", 0),
            ("16", 16),
            ("-1", -1),
            ("0x20008086", 0x2000_8086),
            ("0XfF", 255),
            ("010", 8),
            ("-0x10", -16),
        ] {
            assert_eq!(super::number(text), Some(number), "{text}");
        }
        for text in ["08", "--1", "0x", "0x-1", "1_000", "12ab", "-", "9223372036854775808"] {
            assert_eq!(super::number(text), None, "{text}");
        }
    }

    #[test]
    fn comments_keep_what_they_say_and_where() {
        assert_eq!(shown("/* insert@1 */")[0], "1:1 insert@1@a.x:1:4");
        assert_eq!(
            shown("/**\n * @generate: both\n *\n   * @acl: domain:read\n */ x")[..2],
            ["1:1 @generate: both@a.x:2:4|@acl: domain:read@a.x:4:6", "5:5 'x'"]
        );
        assert_eq!(shown("a // b *c\nd")[1], "1:3 b *c@a.x:1:6");
        assert_eq!(
            shown("/**/ /***/ *a"),
            ["1:1 ", "1:6 ", "1:12 '*'", "1:13 'a'", "1:14 the end of the file"]
        );
    }
}
