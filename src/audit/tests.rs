//! Tests of the audit with real files.

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::alerts::{AdminLink, AlertSources};
use crate::checker::CheckerHandle;
use crate::table::{Published, Table};
use crate::zone::Catalog;

/// The longest time for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    handle: AuditHandle,
    place: watch::Sender<Option<StateDirectory>>,
    metrics: Arc<Metrics>,
    events: Events,
}

fn start(directory: Option<&Path>) -> Running {
    let random = SmallRng::seed_from_u64(1);
    let catalog = Arc::new(Catalog::new(Vec::new()));
    let table = Table::new(1, Arc::default(), catalog, Arc::default(), [], random);
    let published = Published::new(table);
    let checker = CheckerHandle { published, ready: watch::channel(true).1, commands: mpsc::channel(1).0 };
    let (events, metrics) = (Events::new(SystemTime::now()), Arc::new(Metrics::new(1)));
    let sources = AlertSources {
        checker,
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        admin: AdminLink::default(),
    };
    let place = watch::Sender::new(directory.map(|path| StateDirectory::unlocked(path.into())));
    let alerts = AlertsHandle::new(sources);
    let earlier = place.borrow().as_ref().map(|place| place.directory().to_owned());
    let handle =
        AuditHandle::start(place.subscribe(), earlier, Arc::clone(&metrics), events.clone(), alerts).unwrap();
    Running { handle, place, metrics, events }
}

impl Running {
    fn note(&self, subject: &str) {
        self.handle.note(entry(subject));
    }

    fn flush(&self) {
        self.handle.flush(PATIENCE);
    }

    fn subjects(&self) -> Vec<String> {
        let page = self.handle.page(&AuditFilter::default(), AUDIT_KEPT);
        page.entries.iter().rev().map(|record| record.subject.clone()).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let random = SmallRng::seed_from_u64(1);
        let catalog = Arc::new(Catalog::new(Vec::new()));
        let table = Arc::new(Table::new(1, Arc::default(), catalog, Arc::default(), [], random));
        let mut text = Vec::new();
        self.metrics.write(&table, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            self.handle.look();
            assert!(began.elapsed() < PATIENCE, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn entry(subject: &str) -> AuditEntry {
    AuditEntry {
        action: AuditAction::Override,
        subject: subject.into(),
        author: Author {
            by: "192.0.2.1:4 with the token ops".into(),
            token: Some("ops".into()),
            uid: None,
            address: Some("192.0.2.1:4".into()),
        },
        reason: Some("kernel".into()),
        before: Some("auto".into()),
        after: Some("drain for 30m".into()),
        outcome: AuditOutcome::Done,
    }
}

fn subjects(directory: &Path) -> Vec<String> {
    read_file(&directory.join(AUDIT)).unwrap().records.into_iter().map(|record| record.subject).collect()
}

#[test]
fn an_entry_is_a_line_of_json_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new().unwrap();
    let running = start(Some(directory.path()));
    running.note("web/gw1");
    running.handle.note(AuditEntry {
        author: Author::named("SIGHUP"),
        action: AuditAction::Reload,
        outcome: AuditOutcome::Refused("1 error to correct".into()),
        ..entry("")
    });
    running.flush();
    let path = directory.path().join(AUDIT);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [done, refused] = &lines[..] else { panic!("{text}") };
    for (member, expected) in [
        ("action", "override"),
        ("subject", "web/gw1"),
        ("by", "192.0.2.1:4 with the token ops"),
        ("token", "ops"),
        ("address", "192.0.2.1:4"),
        ("reason", "kernel"),
        ("before", "auto"),
        ("after", "drain for 30m"),
        ("outcome", "done"),
    ] {
        assert_eq!(done[member], expected, "{text}");
    }
    assert_eq!(
        (refused["outcome"].as_str(), refused["why"].as_str()),
        (Some("refused"), Some("1 error to correct"))
    );
    assert_eq!(refused["by"], "SIGHUP");
    assert!(refused["id"].as_u64() > done["id"].as_u64() && done["id"].as_u64() < Some(1 << 53), "{text}");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn entries_survive_a_restart_and_ids_grow_over_it() {
    let directory = TempDir::new().unwrap();
    let running = start(Some(directory.path()));
    running.note("one");
    running.note("two");
    running.flush();
    drop(running);
    let again = start(Some(directory.path()));
    again.wait("the earlier entries are read", |again| again.subjects() == ["one", "two"]);
    again.note("three");
    again.flush();
    assert_eq!(subjects(directory.path()), ["one", "two", "three"]);
    let page = again.handle.page(&AuditFilter::default(), 2);
    assert!(page.more && page.entries[0].id > page.entries[1].id, "{page:?}");
    let next = AuditFilter { before: Some(page.entries[1].id), ..AuditFilter::default() };
    let rest = again.handle.page(&next, 2);
    assert!(!rest.more && rest.entries[0].subject == "one", "{rest:?}");
    let none = AuditFilter { actions: vec!["reload".into()], ..AuditFilter::default() };
    assert_eq!(again.handle.page(&none, 9), AuditPage::default());
    let by = |text: &str| AuditFilter { by: Some(text.into()), ..AuditFilter::default() };
    assert_eq!(again.handle.page(&by("token ops"), 9).entries.len(), 3);
    assert_eq!(again.handle.page(&by("token other"), 9).entries.len(), 0);
}

#[test]
fn a_line_that_a_crash_has_cut_off_is_completed_and_said() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(AUDIT);
    let running = start(Some(directory.path()));
    running.note("one");
    running.note("torn");
    running.flush();
    drop(running);
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [first + 1, first + 20, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let running = start(Some(directory.path()));
        running.note("three");
        running.flush();
        let read = read_file(&path).unwrap();
        let told: Vec<(&str, &str)> =
            read.records.iter().map(|record| (&*record.action, &*record.subject)).collect();
        // Without its line feed alone, the line is whole.
        let torn = usize::from(cut < whole.len() - 1);
        let expected = [("override", "one"), ("override", "torn"), ("audit", AUDIT), ("override", "three")];
        assert_eq!(read.torn, torn, "{cut}");
        assert_eq!(told, [&expected[..2 - torn], &expected[2..]].concat(), "{cut}");
    }
}

#[test]
fn full_files_take_numbers_and_the_oldest_goes() {
    let directory = TempDir::new().unwrap();
    for number in 0..AUDIT_FILES + 2 {
        let mut line = vec![b'x'; usize::try_from(MAX_AUDIT_FILE).unwrap() - 1];
        line[0] = b'0' + u8::try_from(number).unwrap();
        line.push(b'\n');
        file::append(directory.path(), &line, Vec::new).unwrap();
    }
    let firsts: Vec<u8> =
        files(directory.path()).iter().map(|path| std::fs::read(path).unwrap()[0]).collect();
    assert_eq!(firsts, b"65432");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), AUDIT_FILES);
}

#[test]
fn what_cannot_be_written_waits_gives_an_alarm_and_is_written_later() {
    let directory = TempDir::new().unwrap();
    // Root may write to a directory that is read-only, but nobody can append to a directory.
    std::fs::create_dir(directory.path().join(AUDIT)).unwrap();
    let running = start(Some(directory.path()));
    running.note("one");
    running.wait("it fails", |running| running.handle.failing().is_some());
    running.wait("the alarm is given", |running| running.metric("steerd_audit_failing") == 1);
    running.wait("the event is told", |running| {
        running
            .events
            .after(None)
            .events
            .iter()
            .any(|event| event.message.starts_with("the audit is not written"))
    });
    assert!(running.handle.failing().unwrap().contains("Is a directory"), "{:?}", running.handle.failing());
    for _ in 1..AUDIT_WAITING {
        running.note("next");
    }
    assert_eq!(running.metric("steerd_audit_lost_total"), 0);
    running.note("lost");
    assert_eq!(running.metric("steerd_audit_lost_total"), 1);
    std::fs::remove_dir(directory.path().join(AUDIT)).unwrap();
    running.wait("it is written", |running| running.handle.failing().is_none());
    running.flush();
    let written = subjects(directory.path());
    assert!(written.len() == AUDIT_WAITING && written[0] == "one", "{}", written.len());
    running.wait("the alarm ends", |running| running.metric("steerd_audit_failing") == 0);
}

#[test]
fn a_disk_that_hangs_gives_an_alarm() {
    let running = start(None);
    // The thread of the audit would be in a call that does not return.
    running.handle.0.0.state().writing = Instant::now().checked_sub(SLOW + Duration::from_secs(1));
    running.handle.look();
    assert_eq!(running.metric("steerd_audit_failing"), 1);
    let told = |text: &str| {
        let events = running.events.after(None).events;
        events.iter().filter(|event| event.message.starts_with(text)).count()
    };
    running.handle.look();
    assert_eq!(told("the audit is not written"), 1);
    running.handle.0.0.state().writing = None;
    running.handle.look();
    assert_eq!((running.metric("steerd_audit_failing"), told("the audit is written again")), (0, 1));
}

#[test]
fn entries_that_failed_wait_while_another_process_takes_over() {
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join(AUDIT)).unwrap();
    let running = start(Some(directory.path()));
    running.note("one");
    running.wait("it fails", |running| running.handle.failing().is_some());
    running.handle.hold(PATIENCE);
    let place = running.place.send_replace(None);
    running.note("two");
    std::fs::remove_dir(directory.path().join(AUDIT)).unwrap();
    let began = Instant::now();
    running.wait("it would be time to try again", |_| began.elapsed() > 2 * writer::AUDIT_RETRY);
    assert_eq!(running.metric("steerd_audit_lost_total"), 0);
    // The upgrade is refused.
    running.place.send_replace(place);
    running.handle.resume();
    running.wait("it is written", |running| running.handle.failing().is_none());
    running.flush();
    assert_eq!(subjects(directory.path()), ["one", "two"]);
    running.note("three");
    running.handle.end(PATIENCE);
    assert_eq!(subjects(directory.path()), ["one", "two", "three"]);
    assert_eq!(running.metric("steerd_audit_lost_total"), 0);
}

#[test]
fn entries_that_are_left_at_the_end_are_counted_and_the_thread_ends() {
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join(AUDIT)).unwrap();
    for is_held in [false, true] {
        let running = start(Some(directory.path()));
        running.note("one");
        running.wait("it fails", |running| running.handle.failing().is_some());
        running.note("two");
        if is_held {
            running.handle.hold(PATIENCE);
        }
        let began = Instant::now();
        running.handle.end(PATIENCE);
        assert!(began.elapsed() < PATIENCE && running.handle.0.0.state().has_ended, "held: {is_held}");
        assert_eq!(running.metric("steerd_audit_lost_total"), 2);
    }
    // Without a directory any more, too.
    let running = start(Some(directory.path()));
    running.note("one");
    running.wait("it fails", |running| running.handle.failing().is_some());
    running.place.send_replace(None);
    running.wait("it is given up", |running| running.metric("steerd_audit_lost_total") == 1);
    running.note("in memory");
    running.flush();
    assert_eq!(running.metric("steerd_audit_lost_total"), 1);
}

#[test]
fn it_follows_the_directory_and_without_one_is_in_memory_only() {
    let running = start(None);
    running.note("one");
    running.flush();
    assert!(!running.handle.is_kept() && running.subjects() == ["one"]);
    let directory = TempDir::new().unwrap();
    running.place.send_replace(Some(StateDirectory::unlocked(directory.path().into())));
    running.note("two");
    running.flush();
    assert!(running.handle.is_kept() && subjects(directory.path()) == ["two"]);
    std::fs::remove_file(directory.path().join(AUDIT)).unwrap();
    running.note("three");
    running.flush();
    assert_eq!(subjects(directory.path()), ["three"]);
    assert_eq!(running.subjects(), ["one", "two", "three"]);
}

#[test]
fn a_long_text_is_cut() {
    let reason = "ä".repeat(10_000);
    let record =
        AuditRecord::new(1, Timestamp::UNIX_EPOCH, AuditEntry { reason: Some(reason), ..entry("x") });
    let cut = record.reason.unwrap();
    assert!(cut.len() < 5_000 && cut.ends_with("ä .."), "{}", cut.len());
}
