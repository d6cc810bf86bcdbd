//! Tokens into definitions: the grammar of RFC 4506 section 6, as far as libvirt's protocols use it.

use crate::ast::{Arm, Base, Declaration, Definition, Member, Name, Scalar, Shape, Value};
use crate::diagnostic::{Diagnostic, Position, Result};
use crate::lex::{Token, TokenKind};

/// All definitions of a file.
pub fn specification(tokens: &[Token]) -> Result<Vec<Definition>> {
    let mut parser = Parser { tokens, at: 0, note: Vec::new() };
    let mut definitions = Vec::new();
    while !matches!(parser.peek(), TokenKind::End) {
        definitions.push(parser.definition()?);
    }
    Ok(definitions)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The comment that was passed over last.
    note: Vec<Name>,
}

impl Parser<'_> {
    /// The next token that is not a comment; comments before it become the pending note.
    fn peek(&mut self) -> &TokenKind {
        while let TokenKind::Comment(lines) = &self.tokens[self.at].kind {
            self.note = lines.clone();
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
        Err(Diagnostic::new(&self.position(), what, found))
    }

    fn is(&mut self, char: char) -> bool {
        let found = matches!(self.peek(), TokenKind::Punct(next) if *next == char);
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
        if let &TokenKind::Number(number) = self.peek() {
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
            self.note.clear();
            self.peek();
            let note = std::mem::take(&mut self.note);
            if !members.is_empty() && self.is('}') {
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
        // An empty struct would take no bytes, and a list of them no end.
        let mut fields = vec![self.declaration()?];
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
        while arms.is_empty() || !self.is('}') {
            let position = self.position();
            if !self.word("case") {
                return self.expected("'case'");
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
            if self.is('>') {
                Shape::Variable(None)
            } else {
                let limit = self.value()?;
                self.punct('>')?;
                Shape::Variable(Some(limit))
            }
        } else {
            Shape::One
        };
        let at = self.position();
        self.punct(';')?;
        Ok(Declaration { name, base, shape, note: self.note_on_line(at.line) })
    }

    /// A comment on the line that just ended.
    fn note_on_line(&self, line: u32) -> Option<String> {
        let token = &self.tokens[self.at];
        match &token.kind {
            TokenKind::Comment(lines) if token.position.line == line => {
                let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
                Some(texts.join("\n"))
            }
            _ => None,
        }
    }

    fn base(&mut self) -> Result<Base> {
        let signed = !self.word("unsigned");
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
        if !signed {
            return Ok(Base::Scalar(Scalar::Int { signed }));
        }
        for (keyword, base) in [
            ("double", Base::Scalar(Scalar::Double)),
            ("bool", Base::Scalar(Scalar::Bool)),
            ("opaque", Base::Opaque),
            ("string", Base::String),
        ] {
            if self.word(keyword) {
                return Ok(base);
            }
        }
        // `struct name`, `enum name` mean the type of that name.
        let _ = self.word("struct") || self.word("enum") || self.word("union");
        Ok(Base::Named(self.name("a type")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex;

    fn parsed(source: &str) -> Vec<Definition> {
        specification(&lex::tokens("a.x", source).unwrap()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The only field of a struct.
    fn field(declaration: &str) -> Declaration {
        match parsed(&format!("struct s {{ {declaration} }};")).remove(0) {
            Definition::Struct { mut fields, .. } if fields.len() == 1 => fields.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars() {
        for (text, scalar) in [
            ("int", Scalar::Int { signed: true }),
            ("unsigned int", Scalar::Int { signed: false }),
            ("unsigned", Scalar::Int { signed: false }),
            ("hyper", Scalar::Hyper { signed: true }),
            ("unsigned hyper", Scalar::Hyper { signed: false }),
            ("char", Scalar::Char { signed: true }),
            ("unsigned char", Scalar::Char { signed: false }),
            ("short", Scalar::Short { signed: true }),
            ("unsigned short", Scalar::Short { signed: false }),
            ("double", Scalar::Double),
            ("bool", Scalar::Bool),
        ] {
            let field = field(&format!("{text} a;"));
            assert!(matches!(field.base, Base::Scalar(found) if found == scalar), "{text}: {field:?}");
            assert!(matches!(field.shape, Shape::One), "{text}: {field:?}");
        }
    }

    #[test]
    fn shapes() {
        assert!(matches!(field("string a<>;").shape, Shape::Variable(None)));
        assert!(matches!(field("string a<9>;").shape, Shape::Variable(Some(Value::Number(9)))));
        let limited = field("opaque a<LIMIT>;");
        assert!(matches!(limited.base, Base::Opaque));
        assert!(matches!(&limited.shape, Shape::Variable(Some(Value::Named(name))) if name.text == "LIMIT"));
        assert!(matches!(field("opaque a[0x10];").shape, Shape::Fixed(Value::Number(16))));
        for pointer in ["t *a;", "t* a;", "struct t * a;"] {
            let field = field(pointer);
            assert!(matches!(field.shape, Shape::Optional), "{pointer}");
            assert!(matches!(&field.base, Base::Named(name) if name.text == "t"), "{pointer}");
        }
    }

    #[test]
    fn a_note_is_the_comment_on_the_same_line() {
        assert_eq!(field("int a; /* insert@1 */").note.as_deref(), Some("insert@1"));
        assert_eq!(field("int a;\n/* of the next */").note, None);
    }

    #[test]
    fn a_member_has_the_comment_before_it() {
        let text =
            "enum procedure {\n /** @generate: both */\n A = 1,\n B = 2, /* skipgen */\n /* x */ C = 3,\n};";
        let Definition::Enum { members, .. } = parsed(text).remove(0) else { panic!("no enum") };
        let notes = |member: &Member| member.note.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
        let [a, b, c] = &members[..] else { panic!("{members:?}") };
        assert_eq!(
            (notes(a), notes(b), notes(c)),
            (vec!["@generate: both".into()], vec![], vec!["x".into()])
        );
    }

    #[test]
    fn unions_take_numbers_macros_and_void() {
        let text =
            "union u switch (unsigned type) { case 1: int a; case VIR_X: string b<>; case -1: void; };";
        let Definition::Union { switch, arms, .. } = parsed(text).remove(0) else { panic!("no union") };
        assert!(matches!(switch.base, Base::Scalar(Scalar::Int { signed: false })));
        let [number, named, void] = &arms[..] else { panic!("{arms:?}") };
        assert!(matches!(number.case, Value::Number(1)));
        assert!(matches!(&named.case, Value::Named(name) if name.text == "VIR_X"));
        assert!(matches!(void.case, Value::Number(-1)) && void.declaration.is_none());
    }

    #[test]
    fn a_constant_may_be_a_macro() {
        let Definition::Const { name, value } = parsed("const LIMIT = VIR_UUID_BUFLEN;").remove(0) else {
            panic!("no constant")
        };
        assert_eq!((name.text.as_str(), name.position.to_string()), ("LIMIT", "a.x:1:7".to_owned()));
        assert!(matches!(value, Value::Named(name) if name.text == "VIR_UUID_BUFLEN"));
    }
}
