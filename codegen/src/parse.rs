//! Tokens into definitions: the grammar of RFC 4506 section 6, as far as libvirt's protocols use it.

use crate::ast::{Arm, Base, Declaration, Definition, Member, Name, Scalar, Shape, Value};
use crate::diagnostic::{Diagnostic, Position, Result};
use crate::lex::{Token, TokenKind};

/// All definitions of a file.
pub fn specification(tokens: &[Token]) -> Result<Vec<Definition>> {
    let mut parser = Parser { tokens, at: 0, note: None };
    let mut definitions = Vec::new();
    while *parser.peek() != TokenKind::End {
        definitions.push(parser.definition()?);
    }
    Ok(definitions)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The comment that was passed over last.
    note: Option<String>,
}

impl Parser<'_> {
    /// The next token that is not a comment; comments before it become the pending note.
    fn peek(&mut self) -> &TokenKind {
        while let TokenKind::Comment(text) = &self.tokens[self.at].kind {
            self.note = Some(text.clone());
            self.at += 1;
        }
        &self.tokens[self.at].kind
    }

    fn position(&mut self) -> Position {
        self.peek();
        self.tokens[self.at].position.clone()
    }

    fn next(&mut self) -> Token {
        self.peek();
        let token = self.tokens[self.at].clone();
        // The end token is never passed.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn expected<T>(&mut self, what: &str) -> Result<T> {
        let found = self.peek().to_string();
        Err(Diagnostic::new(&self.position(), format!("expected {what}, found {found}")))
    }

    fn is(&mut self, char: char) -> bool {
        let found = *self.peek() == TokenKind::Punct(char);
        if found {
            self.next();
        }
        found
    }

    fn punct(&mut self, char: char) -> Result<()> {
        if self.is(char) { Ok(()) } else { self.expected(&format!("'{char}'")) }
    }

    fn word(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), TokenKind::Word(word) if word == keyword);
        if found {
            self.next();
        }
        found
    }

    fn name(&mut self, what: &str) -> Result<Name> {
        match self.peek() {
            TokenKind::Word(_) => match self.next() {
                Token { kind: TokenKind::Word(text), position } => Ok(Name { text, position }),
                _ => self.expected(what),
            },
            _ => self.expected(what),
        }
    }

    fn value(&mut self) -> Result<Value> {
        if let TokenKind::Number(number) = *self.peek() {
            self.next();
            return Ok(Value::Number(number));
        }
        Ok(Value::Named(self.name("a number or the name of a constant")?))
    }

    fn definition(&mut self) -> Result<Definition> {
        if self.word("const") {
            let name = self.name("the name of a constant")?;
            self.punct('=')?;
            let value = self.value()?;
            self.punct(';')?;
            return Ok(Definition::Const { name, value });
        }
        if self.word("typedef") {
            return Ok(Definition::Typedef(self.declaration()?));
        }
        if self.word("enum") {
            let name = self.name("the name of the enum")?;
            let members = self.members().map_err(|e| e.within(&name.text))?;
            return Ok(Definition::Enum { name, members });
        }
        if self.word("struct") {
            let name = self.name("the name of the struct")?;
            let fields = self.fields().map_err(|e| e.within(&name.text))?;
            return Ok(Definition::Struct { name, fields });
        }
        if self.word("union") {
            let name = self.name("the name of the union")?;
            let (switch, arms) = self.union_body().map_err(|e| e.within(&name.text))?;
            return Ok(Definition::Union { name, switch, arms });
        }
        self.expected("'const', 'typedef', 'enum', 'struct' or 'union'")
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        self.punct('{')?;
        let mut members = Vec::new();
        loop {
            self.note = None;
            self.peek();
            let note = self.note.take();
            if self.is('}') {
                break;
            }
            let name = self.name("the name of a member")?;
            self.punct('=')?;
            let value = self.value()?;
            members.push(Member { name, value, note });
            if !self.is(',') {
                self.punct('}')?;
                break;
            }
        }
        self.punct(';')?;
        Ok(members)
    }

    fn fields(&mut self) -> Result<Vec<Declaration>> {
        self.punct('{')?;
        let mut fields = Vec::new();
        while !self.is('}') {
            fields.push(self.declaration()?);
        }
        self.punct(';')?;
        Ok(fields)
    }

    fn union_body(&mut self) -> Result<(Declaration, Vec<Arm>)> {
        if !self.word("switch") {
            return self.expected("'switch'");
        }
        self.punct('(')?;
        let base = self.base()?;
        let name = self.name("the name of the discriminant")?;
        self.punct(')')?;
        self.punct('{')?;
        let mut arms = Vec::new();
        while !self.is('}') {
            let position = self.position();
            if !self.word("case") {
                return self.expected("'case' (a default arm is not used by libvirt's protocols)");
            }
            let case = self.value()?;
            self.punct(':')?;
            let declaration = if self.word("void") {
                self.punct(';')?;
                None
            } else {
                Some(self.declaration()?)
            };
            arms.push(Arm { case, position, declaration });
        }
        self.punct(';')?;
        Ok((Declaration { name, base, shape: Shape::One, note: None }, arms))
    }

    /// `base [*] name [[n] | <n>] ;`
    fn declaration(&mut self) -> Result<Declaration> {
        let base = self.base()?;
        let optional = self.is('*');
        let name = self.name("the declared name")?;
        let shape = if optional {
            Shape::Optional
        } else if self.is('[') {
            let length = self.value()?;
            self.punct(']')?;
            Shape::Fixed(length)
        } else if self.is('<') {
            let limit = if *self.peek() == TokenKind::Punct('>') { None } else { Some(self.value()?) };
            self.punct('>')?;
            Shape::Variable(limit)
        } else {
            Shape::One
        };
        let at = self.position();
        self.punct(';').map_err(|e| e.within(&name.text))?;
        Ok(Declaration { name, base, shape, note: self.note_on_line(at.line) })
    }

    /// A comment on the line that just ended.
    fn note_on_line(&self, line: u32) -> Option<String> {
        let token = &self.tokens[self.at];
        match &token.kind {
            TokenKind::Comment(text) if token.position.line == line => Some(text.clone()),
            _ => None,
        }
    }

    fn base(&mut self) -> Result<Base> {
        let unsigned = self.word("unsigned");
        let signed = !unsigned;
        for (keyword, scalar) in [
            ("int", Scalar::Int { signed }),
            ("hyper", Scalar::Hyper { signed }),
            ("char", Scalar::Char { signed }),
            ("short", Scalar::Short { signed }),
        ] {
            if self.word(keyword) {
                return Ok(Base::Scalar(scalar));
            }
        }
        if unsigned {
            return Ok(Base::Scalar(Scalar::Int { signed: false }));
        }
        if self.word("double") {
            return Ok(Base::Scalar(Scalar::Double));
        }
        if self.word("bool") {
            return Ok(Base::Scalar(Scalar::Bool));
        }
        if self.word("opaque") {
            return Ok(Base::Opaque);
        }
        if self.word("string") {
            return Ok(Base::String);
        }
        // `struct name`, `enum name` mean the type of that name.
        let _ = self.word("struct") || self.word("enum");
        Ok(Base::Named(self.name("a type")?))
    }
}
