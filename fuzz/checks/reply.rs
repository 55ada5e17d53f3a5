//! A strict reader of replies: every byte belongs to a record, compression pointers lead backwards
//! to the start of a label, and no name is too long.

/// A reply with its records; owners are in lower case.
pub(crate) struct Reply<'r> {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Option<&'r [u8]>,
    pub(crate) answers: Vec<Record<'r>>,
    pub(crate) authorities: Vec<Record<'r>>,
    pub(crate) additionals: Vec<Record<'r>>,
    /// The OPT record, which is not in `additionals`.
    pub(crate) opt: Option<Record<'r>>,
}

#[derive(Debug)]
pub(crate) struct Record<'r> {
    pub(crate) owner: Vec<u8>,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// The raw data, with compressed names.
    pub(crate) data: &'r [u8],
}

impl<'r> Reply<'r> {
    /// Reads a message. Panics if it is malformed.
    pub(crate) fn read(message: &'r [u8]) -> Self {
        let mut at = 0;
        let mut header = [0; 6];
        for field in &mut header {
            *field = number(message, &mut at);
        }
        let [id, flags, questions, answers, authorities, additionals] = header;
        let question = match questions {
            0 => None,
            1 => {
                let start = at;
                name(message, &mut at);
                at += 4;
                Some(&message[start..at])
            }
            _ => panic!("{questions} questions"),
        };
        let mut section =
            |count: u16| -> Vec<Record<'r>> { (0..count).map(|_| record(message, &mut at)).collect() };
        let (answers, authorities) = (section(answers), section(authorities));
        let (mut opts, additionals): (Vec<_>, Vec<_>) =
            section(additionals).into_iter().partition(|record| record.rtype == 41);
        assert_eq!(at, message.len(), "bytes follow the last record");
        assert!(opts.len() <= 1, "{} OPT records", opts.len());
        Self { id, flags, question, answers, authorities, additionals, opt: opts.pop() }
    }

    /// The response code, including the bits in the OPT record.
    pub(crate) fn rcode(&self) -> u16 {
        let extended = self.opt.as_ref().map_or(0, |opt| u16::from(opt.ttl.to_be_bytes()[0]));
        extended << 4 | self.flags & 0xf
    }

    /// The codes of the options in the OPT record, in order.
    pub(crate) fn options(&self) -> Vec<u16> {
        let mut codes = Vec::new();
        let mut rest = self.opt.as_ref().map_or(&[][..], |opt| opt.data);
        while let [c0, c1, l0, l1, after @ ..] = rest {
            codes.push(u16::from_be_bytes([*c0, *c1]));
            rest = &after[usize::from(u16::from_be_bytes([*l0, *l1]))..];
        }
        codes
    }
}

fn number(message: &[u8], at: &mut usize) -> u16 {
    *at += 2;
    u16::from_be_bytes([message[*at - 2], message[*at - 1]])
}

fn record<'r>(message: &'r [u8], at: &mut usize) -> Record<'r> {
    let owner = name(message, at);
    let (rtype, class) = (number(message, at), number(message, at));
    let ttl = u32::from(number(message, at)) << 16 | u32::from(number(message, at));
    let length = usize::from(number(message, at));
    let data = &message[*at..*at + length];
    // Names in the data of these types may be compressed and must be readable.
    let mut inside = *at;
    match rtype {
        2 | 5 | 12 | 39 => drop(name(message, &mut inside)),
        6 => {
            name(message, &mut inside);
            name(message, &mut inside);
            inside += 20;
        }
        15 => {
            inside += 2;
            name(message, &mut inside);
        }
        33 => {
            inside += 6;
            name(message, &mut inside);
        }
        _ => inside += length,
    }
    *at += length;
    assert_eq!(inside, *at, "data of type {rtype} has a wrong length");
    Record { owner, rtype, class, ttl, data }
}

/// The name at `at`, uncompressed and in lower case.
pub(crate) fn name(message: &[u8], at: &mut usize) -> Vec<u8> {
    let mut name = Vec::new();
    let mut here = *at;
    let mut end = None;
    loop {
        let length = usize::from(message[here]);
        match length {
            0 => {
                name.push(0);
                break;
            }
            1..=63 => {
                name.extend(&message[here..=here + length]);
                here += length + 1;
            }
            0xc0.. => {
                end.get_or_insert(here + 2);
                let target = (length & 0x3f) << 8 | usize::from(message[here + 1]);
                assert!((12..here).contains(&target), "a pointer from {here} to {target}");
                here = target;
            }
            _ => panic!("a label of type {length:#x}"),
        }
    }
    *at = end.unwrap_or(here + 1);
    assert!(name.len() <= 255, "a name of {} bytes", name.len());
    name.make_ascii_lowercase();
    name
}
