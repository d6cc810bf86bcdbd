//! The syntax of libvirt's configuration files: `key = value`, where a value is a number, a string or a list of
//! these, and `#` begins a comment.
//!
//! Strings stand between `"` or `'` on one line, or between `"""` on several; nothing is escaped in them.

use std::fmt;

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `5`, `-1`
    Number(i64),
    /// `"text"`
    Text(String),
    /// `[ "a", "b" ]`
    List(Vec<Value>),
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The line it begins on, from 1.
    pub line: usize,
    /// What is set.
    pub key: String,
    /// To what.
    pub value: Value,
}

/// Text that is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, in libvirt's words.
    pub what: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// Lists hold plain values only, and this many at most.
const LIST_MAX: usize = 65_536;

/// All assignments of a file, in order.
pub fn parse(text: &str) -> Result<Vec<Assignment>, SyntaxError> {
    let mut cursor = Cursor { rest: text, line: 1 };
    let mut assignments = Vec::new();
    loop {
        cursor.skip_lines();
        if cursor.rest.is_empty() {
            return Ok(assignments);
        }
        assignments.push(cursor.assignment()?);
    }
}

/// What is left of the text.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { line: self.line, what }
    }

    fn advance(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.advance(text.len());
        }
        found
    }

    fn skip_blanks(&mut self) {
        self.take(|c| c == ' ' || c == '\t');
    }

    /// Blanks, ends of lines and comments.
    fn skip_lines(&mut self) {
        loop {
            self.take(|c| c.is_ascii_whitespace());
            if !self.rest.starts_with('#') {
                return;
            }
            self.take(|c| c != '\n');
        }
    }

    fn assignment(&mut self) -> Result<Assignment, SyntaxError> {
        let line = self.line;
        if !self.rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.error("expecting a name"));
        }
        let key = self.take(|c| c.is_ascii_alphanumeric() || "._-".contains(c)).to_owned();
        self.skip_blanks();
        if !self.eat("=") {
            return Err(self.error("expecting an assignment"));
        }
        self.skip_blanks();
        let value = self.value()?;
        self.skip_blanks();
        if !self.rest.is_empty() && !self.rest.starts_with(['\r', '\n', '#']) {
            return Err(self.error("expecting a separator"));
        }
        Ok(Assignment { line, key, value })
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        if self.eat("[") { self.list() } else { self.plain() }
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            self.skip_lines();
            if self.eat("]") {
                return Ok(Value::List(items));
            }
            if self.rest.is_empty() || items.len() >= LIST_MAX {
                return Err(self.error("list is not closed with ]"));
            }
            items.push(self.plain()?);
            self.skip_lines();
            if !self.eat(",") && !self.rest.starts_with(']') {
                let what = if self.rest.is_empty() {
                    "list is not closed with ]"
                } else {
                    "expecting a separator in list"
                };
                return Err(self.error(what));
            }
        }
    }

    fn plain(&mut self) -> Result<Value, SyntaxError> {
        if self.eat("\"\"\"") {
            return self.text("\"\"\"", true);
        }
        for quote in ["\"", "'"] {
            if self.eat(quote) {
                return self.text(quote, false);
            }
        }
        if self.rest.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            let number = self.take(|c| c == '-' || c.is_ascii_digit());
            return number.parse().map(Value::Number).map_err(|_| self.error("expecting a number"));
        }
        Err(self.error("expecting a value"))
    }

    fn text(&mut self, quote: &str, lines: bool) -> Result<Value, SyntaxError> {
        let end = self.rest.find(quote).filter(|end| lines || !self.rest[..*end].contains('\n'));
        let end = end.ok_or_else(|| self.error("unterminated string"))?;
        let text = self.advance(end).to_owned();
        self.eat(quote);
        Ok(Value::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(usize, String, Value)> {
        parse(text).unwrap().into_iter().map(|a| (a.line, a.key, a.value)).collect()
    }

    #[test]
    fn numbers_strings_lists_and_comments() {
        let text = "# first\nmax_clients = 5 # last\n\n name=\"a # b\"\nother ='x'\nlist = [ \"a\", # one\n  'b',\n]\nnone=[]\n\
                    long = \"\"\"two\nlines\"\"\"\nafter = -1";
        let text_value = |text: &str| Value::Text(text.into());
        assert_eq!(
            values(text),
            [
                (2, "max_clients".into(), Value::Number(5)),
                (4, "name".into(), text_value("a # b")),
                (5, "other".into(), text_value("x")),
                (6, "list".into(), Value::List(vec![text_value("a"), text_value("b")])),
                (9, "none".into(), Value::List(vec![])),
                (10, "long".into(), text_value("two\nlines")),
                (12, "after".into(), Value::Number(-1)),
            ]
        );
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (text, line, what) in [
            ("max_clients 5", 1, "expecting an assignment"),
            ("\n= 5", 2, "expecting a name"),
            ("a = 5 x", 1, "expecting a separator"),
            ("a = \"5", 1, "unterminated string"),
            ("a = \"5\nb\"", 1, "unterminated string"),
            ("a = [ \"x\",\n \"y\"\n", 3, "list is not closed with ]"),
            ("a = [ \"x\" \"y\" ]", 1, "expecting a separator in list"),
            ("a = [ [ 1 ] ]", 1, "expecting a value"),
            ("a = ", 1, "expecting a value"),
            ("a = 99999999999999999999", 1, "expecting a number"),
            ("a = 1-2", 1, "expecting a number"),
            ("a = \"\"\"x\ny", 1, "unterminated string"),
        ] {
            assert_eq!(parse(text), Err(SyntaxError { line, what }), "{text}");
        }
    }

    #[test]
    fn any_cut_of_a_file_is_an_answer() {
        let text = "a = [ \"é\", 'b' ] # x\nb = \"\"\"c\n\"\"\"\nc = -7\n";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let _ = parse(&text[..end]);
        }
    }
}
