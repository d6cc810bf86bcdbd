//! XDR text into tokens. Comments are kept: libvirt's annotations live in them.

use std::fmt;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Position, Result};

/// One token and where it starts.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it starts.
    pub position: Position,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or keyword.
    Word(String),
    /// A decimal, octal or hexadecimal number, sign included.
    Number(i64),
    /// One of `{ } ( ) [ ] < > = ; : , *`.
    Punct(char),
    /// The inside of a `/* … */` comment, stars at the line starts removed.
    Comment(String),
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
        let end = token.kind == TokenKind::End;
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
                return Err(Diagnostic::new(
                    &position,
                    format!("expected a definition, found the character {c:?}"),
                ));
            }
        };
        Ok(Token { kind, position })
    }

    fn comment(&mut self, position: &Position) -> Result<TokenKind> {
        if self.rest.starts_with("//") {
            return Ok(TokenKind::Comment(self.take_while(|c| c != '\n')[2..].trim().to_owned()));
        }
        if !self.rest.starts_with("/*") {
            return Err(Diagnostic::new(position, "expected a comment, found the character '/'"));
        }
        let Some(end) = self.rest.find("*/") else {
            return Err(Diagnostic::new(
                position,
                "expected '*/' before the end of the file: this comment never ends",
            ));
        };
        let text = self.take(end + 2);
        let lines = text[2..end.max(2)].lines().map(|line| line.trim().trim_start_matches('*').trim());
        Ok(TokenKind::Comment(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")))
    }

    fn number(&mut self, position: &Position) -> Result<TokenKind> {
        let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '-');
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let parsed = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            i64::from_str_radix(hex, 16)
        } else if digits.len() > 1 && digits.starts_with('0') {
            i64::from_str_radix(digits, 8)
        } else {
            digits.parse()
        };
        match parsed {
            Ok(number) => Ok(TokenKind::Number(sign * number)),
            Err(_) => Err(Diagnostic::new(position, format!("expected a number, found '{text}'"))),
        }
    }
}
