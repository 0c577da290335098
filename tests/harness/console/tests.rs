use super::*;

fn parse(markdown: &str) -> Result<Console, String> {
    Console::parse("a.md", markdown)
}

/// Runs a session that does not need the program.
fn run(session: &str) -> Result<(), String> {
    let markdown = format!("```console\n{session}\n```\n");
    parse(&markdown)?.run(Path::new("/bin/true"))
}

#[test]
fn only_blocks_marked_console_are_sessions() {
    let markdown = "```sh\n$ no\n```\n```console\n$ a\nout \n\n$ b \\\n> c\n? 2\n```\ntext\n$ no\n";
    let step = |line, command: &str, expected: &[&str], code| Step {
        line,
        command: command.to_owned(),
        expected: expected.iter().map(|&line| line.to_owned()).collect(),
        code,
    };
    let steps = vec![step(5, "a", &["out"], 0), step(8, "b \\\nc", &[], 2)];
    let file = "a.md".to_owned();
    assert_eq!(parse(markdown), Ok(Console { file, steps }));
}

#[test]
fn says_where_a_session_is_malformed() {
    for (markdown, error) in [
        ("\n```console\n$ a\n", "a.md:2: this block has no end"),
        ("```\n", "a.md:1: this block has no end"),
        ("```console\nout\n```", "a.md:2: no command precedes this"),
        (
            "```console\n$ a\n```\n```console\nout\n```",
            "a.md:5: no command precedes this",
        ),
    ] {
        assert_eq!(parse(markdown), Err(error.to_owned()), "{markdown}");
    }
}

#[test]
fn wildcards_stand_for_any_text_of_a_line() {
    for (pattern, line, expected) in [
        ("", "", true),
        ("", "a", false),
        ("a", "a", true),
        ("a", "ab", false),
        ("[..]", "", true),
        ("a[..]", "abc", true),
        ("a…", "abc", true),
        ("a…", "ba", false),
        ("[..]c", "abc", true),
        ("[..]c", "abcd", false),
        ("a[..]c", "abbc", true),
        ("a[..]a", "a", false),
        ("a[..]b…c", "a b b c", true),
        ("a[..]b…c", "a c b", false),
        ("…      b", "aaaaa  b", true),
        ("a   …   b", "a b", false),
        ("a   …   b", "a - b", true),
        ("a  b…", "a b", false),
    ] {
        assert_eq!(line_matches(pattern, line), expected, "{pattern} {line}");
    }
}

#[test]
fn the_difference_is_the_smallest() {
    let lines = |text: &str| {
        text.split_terminator('|')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (expected, printed, difference) in [
        ("", "", None),
        ("a|b", "a|b", None),
        ("...", "", None),
        ("...", "a|b", None),
        ("a|...|d", "a|b|c|d", None),
        ("...|c|...", "a|b|c|d", None),
        ("a|b|c", "a|c", Some("  a\n- b\n  c\n")),
        ("a|c", "a|b|c", Some("  a\n+ b\n  c\n")),
        ("a|b", "a|x", Some("  a\n+ x\n- b\n")),
        ("...|z", "a|b", Some("  a\n  b\n  ...\n- z\n")),
        ("a[..]|c", "abc|d", Some("  abc\n+ d\n- c\n")),
    ] {
        let found = diff(&lines(expected), &lines(printed));
        assert_eq!(found.as_deref(), difference, "{expected} {printed}");
    }
}

#[test]
fn commands_share_one_shell_and_one_directory() {
    let session = "$ mkdir a; cd a; X=1\n$ echo $X; basename $PWD\n1\na\n$ cat <<END\n> two\n> lines\n> END\ntwo\nlines";
    assert_eq!(run(session), Ok(()));
}

#[test]
fn both_streams_and_the_exit_code_are_compared() {
    assert_eq!(
        run("$ echo out; echo err >&2; (exit 3)\nout\nerr\n? 3"),
        Ok(())
    );
    for (session, message) in [
        (
            "$ echo b\na",
            "a.md:2: `echo b` prints something else (- expected, + printed)\n+ b\n- a\n",
        ),
        ("$ false", "a.md:2: `false` ends with 1, not 0\n"),
        ("$ true\n? 1", "a.md:2: `true` ends with 0, not 1\n"),
        (
            "$ exit 4\n? 4",
            "a.md:2: `exit 4` ended the shell, or never ends\n",
        ),
    ] {
        assert_eq!(run(session), Err(message.to_owned()), "{session}");
    }
}

#[test]
fn the_environment_of_the_caller_stays_outside() {
    assert_eq!(run("$ env | grep -c -e CARGO -e KAIROS\n0\n? 1"), Ok(()));
    assert_eq!(run("$ basename $HOME; ls -A ~; ls -A\nhome"), Ok(()));
}

#[test]
fn a_command_goes_on_in_the_background_once_it_has_said_what_it_should() {
    let serve = "mkfifo ../stop; (echo Listening on here; cat ../stop; echo over) &";
    assert_eq!(run(&format!("$ {serve}\n$ kill -0 $!")), Ok(()));
    assert_eq!(
        run(&format!("$ {serve}\nListening on …\n$ jobs | wc -l\n1")),
        Ok(())
    );
    let error = run("$ echo no &\nyes").expect_err("it ends without having said so");
    assert!(error.ends_with("\n+ no\n- yes\n"), "{error}");
    let error = run("$ true &").expect_err("it ends without listening");
    assert!(error.contains("`true &` prints something else"), "{error}");
}

#[test]
fn named_ports_stand_for_free_ones_and_are_shown_as_named() {
    assert_eq!(
        run(
            "$ echo --port 8080 127.0.0.1:8081/x 18080 p8080\n--port 8080 127.0.0.1:8081/x 18080 p8080"
        ),
        Ok(())
    );
    let ports = Ports::choose(["a 8080", "b :8999 :9000 80801"].into_iter());
    let hidden = ports.hide("8080 8999 9000");
    let numbers: Vec<u16> = hidden
        .split(' ')
        .map(|port| port.parse().expect("a port"))
        .collect();
    assert!(
        FREE_PORTS.contains(&numbers[0]) && FREE_PORTS.contains(&numbers[1]),
        "{hidden}"
    );
    assert_ne!(numbers[0], numbers[1]);
    assert_eq!(numbers[2], 9000);
    assert_eq!(ports.show(&hidden), "8080 8999 9000");
}
