//! Faults of `[admin]`: where it listens, and who may use it.

use super::{REST, errors, load_files};

#[test]
fn tokens_of_the_admin_server() {
    let all = "rights = [\"read\"]";
    for (tokens, expected) in [
        ("tokens = 5", "2:10 `tokens` must be a table; this is an integer"),
        ("tokens.ops = \"ops\"", "2:14 `ops` must be a table; this is a string | write [admin.tokens.ops]"),
        ("[admin.tokens.ops]\nfile = \"ops\"", "2:15 this token has no `rights`"),
        ("[admin.tokens.ops]\nrights = [\"read\"]", "2:15 this token has no `file`"),
        (
            &format!("[admin.tokens.ops]\nfile = \"none\"\n{all}"),
            "3:8 `file` `none`: No such file or directory (os error 2)",
        ),
        (
            &format!("[admin.tokens.ops]\nfile = \"short\"\n{all}"),
            "3:8 `file` `short`: the token has 5 characters; at least 16 are needed, as from `openssl rand -hex 32`",
        ),
        (
            "[admin.tokens.ops]\nfile = \"ops\"\nrights = []",
            "4:10 `rights` must be a list of rights, such as [\"read\", \"override\"] with at least one element",
        ),
        (
            "[admin.tokens.ops]\nfile = \"ops\"\nrights = \"read\"",
            "4:10 `rights` must be a list of rights, such as [\"read\", \"override\"]; this is a string | did you mean [\"read\"]?",
        ),
        (
            "[admin.tokens.ops]\nfile = \"ops\"\nrights = [\"overide\"]",
            "4:11 each element of `rights` must be \"read\", \"override\", \"reload\" or \"upgrade\" | did you mean \"override\"?",
        ),
        (
            "[admin.tokens.ops]\nfile = \"ops\"\nrights = [\"read\", \"read\"]",
            "4:19 the right `read` is defined twice",
        ),
        (
            &format!("[admin.tokens.token_file]\nfile = \"ops\"\n{all}"),
            "2:15 `token_file` is the name of the token of `token_file` itself; choose another one",
        ),
        (
            &format!("[admin.tokens.\"a b\"]\nfile = \"ops\"\n{all}"),
            "2:15 ' ' is not allowed in the name of a token | letters, digits, dots, dashes and underscores can",
        ),
        (
            &format!("token_file = \"ops\"\n[admin.tokens.ops]\nfile = \"ops\"\n{all}"),
            "3:15 `ops` has the same token as `token_file`; each needs its own",
        ),
    ] {
        let text = format!("[admin]\n{tokens}\n{REST}");
        let told = errors(&load_files(&text, &[("ops", "0123456789abcdef"), ("short", "01234")]));
        assert_eq!(told, [format!("steerd.toml:{expected}")], "{text}");
    }
    let many: Vec<String> =
        (0..33).map(|token| format!("[admin.tokens.t{token}]\nfile = \"t{token}\"\n{all}\n")).collect();
    let files: Vec<_> =
        (0..33).map(|token| (format!("t{token}"), format!("0123456789-{token:05}"))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let told = errors(&load_files(&format!("{}{REST}", many.concat()), &files));
    assert!(told.len() == 1 && told[0].ends_with("there are 33 tokens; at most 32 are allowed"), "{told:?}");
}

#[test]
fn places_of_the_admin_server() {
    for (admin, expected) in [
        (
            "listen = \"unix:\"",
            "2:10 `listen` must be the path of a Unix socket, such as \"unix:/run/steerd/admin.sock\"".to_owned(),
        ),
        (
            &format!("listen = \"unix:/{}\"", "a".repeat(107)),
            "2:10 the path of a Unix socket has at most 107 bytes; this has 108".to_owned(),
        ),
        ("listen = [\"unix:a\", \"unix:a\"]", "2:21 the address `unix:a` is defined twice".to_owned()),
        (
            "listen = [\"127.0.0.1:8053\", \"0.0.0.0:8053\"]\ntoken_file = \"token\"",
            "2:29 one server cannot listen on both: 0.0.0.0 stands for every IPv4 address of the machine; leave one out"
                .to_owned(),
        ),
        (
            "listen = []",
            "2:10 `listen` must be a list of addresses, such as [\"127.0.0.1:8053\", \"unix:/run/steerd/admin.sock\"] \
             with at least one element"
                .to_owned(),
        ),
        (
            "listen = \"127.0.0.1:8053\"\nsocket = { mode = \"0660\" }",
            "3:1 `socket` is about a Unix socket, and `listen` names none (\"unix:PATH\")".to_owned(),
        ),
        (
            "listen = \"unix:a\"\nsocket = { mode = \"0060\" }",
            "3:19 `mode` must be a mode in octal that lets the owner read and write, such as \"0660\"".to_owned(),
        ),
        (
            "listen = \"unix:a\"\nsocket = { mode = 660 }",
            "3:19 `mode` must be a mode in octal that lets the owner read and write, such as \"0660\"; this is an integer"
                .to_owned(),
        ),
        (
            "listen = \"unix:a\"\nsocket = { group = \"no such group\" }",
            "3:20 this machine has no group `no such group` in /etc/group | create it, or give the number of a group \
             that another source knows"
                .to_owned(),
        ),
    ] {
        let told = errors(&load_files(&format!("[admin]\n{admin}\n{REST}"), &[("token", "0123456789abcdef")]));
        assert_eq!(told, [format!("steerd.toml:{expected}")], "{admin}");
    }
}
