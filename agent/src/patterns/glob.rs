//! One pattern against one path or name, as `wildmatch.c` of git does it. Pure, and linear in memory.

/// Why a pattern can never match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing is left of it without `!` and `/`.
    #[error("it names nothing")]
    Empty,
    /// `[` without its `]`.
    #[error("\"[\" has no \"]\"; write \"\\[\" for the bracket itself")]
    Unclosed,
    /// `[[:name:]]` with a name that does not exist.
    #[error("it names no class such as [:alpha:] or [:digit:]")]
    UnknownClass,
    /// `[z-a]`.
    #[error("a range between brackets runs backwards")]
    Backwards,
    /// A backslash with nothing after it.
    #[error("it ends with a backslash; write \"\\\\\\\\\" for the backslash itself")]
    Backslash,
    /// A NUL, which no name has.
    #[error("it contains a NUL")]
    Nul,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    /// The bytes up to the first special one.
    literal: Vec<u8>,
    rest: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: a byte but `/`.
    Any,
    /// `[…]`: a byte of these, never `/`.
    Class(Box<[bool; 256]>),
    /// `*`: bytes but `/`.
    Star,
    /// `**` that does not begin a directory: any bytes.
    StarStar,
    /// `**/`: any number of directories, also none.
    Directories,
}

impl Glob {
    /// A pattern for the last component of a path.
    pub fn of_name(text: &[u8]) -> Result<Self, GlobError> {
        Self::compile(text, false)
    }

    /// A pattern for a whole path.
    pub fn of_path(text: &[u8]) -> Result<Self, GlobError> {
        Self::compile(text, true)
    }

    fn compile(text: &[u8], is_path: bool) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.contains(&0) {
            return Err(GlobError::Nul);
        }
        let special = text.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(text.len());
        // As in git, stars right behind the literal part stand at the beginning of what is left.
        let (literal, left) = text.split_at(special);
        Ok(Self { literal: literal.to_vec(), rest: tokens(left, is_path)? })
    }

    /// Whether it matches all of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        text.strip_prefix(self.literal.as_slice()).is_some_and(|left| run(&self.rest, left))
    }
}

fn tokens(text: &[u8], is_path: bool) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        tokens.push(match byte {
            b'\\' => {
                at += 1;
                Token::Byte(*text.get(at - 1).ok_or(GlobError::Backslash)?)
            }
            b'?' => Token::Any,
            b'[' => {
                let (class, end) = class(text, at)?;
                at = end;
                Token::Class(class)
            }
            b'*' => {
                let start = at - 1;
                at += text[at..].iter().take_while(|byte| **byte == b'*').count();
                let (after, begins) = (&text[at..], start == 0 || text[start - 1] == b'/');
                match at - start > 1 && is_path && begins {
                    true if after.starts_with(b"/") => {
                        at += 1;
                        Token::Directories
                    }
                    true if after.is_empty() || after.starts_with(b"\\/") => Token::StarStar,
                    _ => Token::Star,
                }
            }
            byte => Token::Byte(*byte),
        });
    }
    Ok(tokens)
}

/// The class whose `[` stands before `at`, and where it ends.
fn class(text: &[u8], mut at: usize) -> Result<(Box<[bool; 256]>, usize), GlobError> {
    let byte = |at: usize| text.get(at).copied().ok_or(GlobError::Unclosed);
    let mut set = Box::new([false; 256]);
    let is_negated = matches!(byte(at)?, b'!' | b'^');
    at += usize::from(is_negated);
    let mut before = None;
    loop {
        let mut now = Some(byte(at)?);
        match (byte(at)?, before) {
            (b'\\', _) => {
                at += 1;
                now = Some(byte(at)?);
                set[usize::from(byte(at)?)] = true;
            }
            (b'-', Some(first)) if !matches!(byte(at + 1)?, b']') => {
                at += 1;
                at += usize::from(byte(at)? == b'\\');
                let last = byte(at)?;
                if last < first {
                    return Err(GlobError::Backwards);
                }
                set[usize::from(first)..=usize::from(last)].fill(true);
                now = None;
            }
            (b'[', _) if byte(at + 1)? == b':' => {
                let name = at + 2;
                let end = name + text[name..].iter().position(|byte| *byte == b']').ok_or(GlobError::Unclosed)?;
                match text[name..end].strip_suffix(b":") {
                    Some(name) => {
                        let belongs = named(name).ok_or(GlobError::UnknownClass)?;
                        (0..=u8::MAX).filter(belongs).for_each(|byte| set[usize::from(byte)] = true);
                        at = end;
                        now = None;
                    }
                    None => set[usize::from(b'[')] = true,
                }
            }
            (byte, _) => set[usize::from(byte)] = true,
        }
        before = now;
        at += 1;
        if byte(at)? == b']' {
            break;
        }
    }
    set.iter_mut().for_each(|is_in| *is_in ^= is_negated);
    set[usize::from(b'/')] = false;
    Ok((set, at + 1))
}

/// Which bytes belong to a named class, all of them ASCII.
fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

/// Where to try again: the token after a star, and from where in the text.
type Again = Option<(usize, usize)>;

/// Whether the tokens match all of the text. What a star takes is lengthened only for the last star, and only where that
/// fails for the last one that crosses slashes: an earlier one has taken as little as it could, and a later one can take
/// all that a longer match of the earlier one would have left.
fn run(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let (mut star, mut wide): (Again, Again) = (None, None);
    loop {
        let is_met = match (tokens.get(token), text.get(at)) {
            (Some(Token::Star), _) => {
                token += 1;
                star = Some((token, at));
                continue;
            }
            (Some(Token::StarStar | Token::Directories), _) => {
                token += 1;
                (star, wide) = (None, Some((token, at)));
                continue;
            }
            (None, None) => return true,
            (Some(Token::Byte(byte)), Some(found)) => byte == found,
            (Some(Token::Any), Some(found)) => *found != b'/',
            (Some(Token::Class(class)), Some(found)) => class[usize::from(*found)],
            (None, Some(_)) | (Some(_), None) => false,
        };
        if is_met {
            token += 1;
            at += 1;
            continue;
        }
        let longer = star.filter(|(_, from)| text.get(*from).is_some_and(|byte| *byte != b'/'));
        if let Some((after, from)) = longer {
            (token, at) = (after, from + 1);
            star = Some((after, at));
        } else if let Some((after, from)) = wide {
            let Some(next) = widened(&tokens[after - 1], text, from) else { return false };
            (token, at) = (after, next);
            (star, wide) = (None, Some((after, at)));
        } else {
            return false;
        }
    }
}

/// Where a star that crosses slashes ends when it takes more than up to `from`.
fn widened(token: &Token, text: &[u8], from: usize) -> Option<usize> {
    match token {
        Token::Directories => Some(from + 1 + text[from..].iter().position(|byte| *byte == b'/')?),
        _ => (from < text.len()).then_some(from + 1),
    }
}
