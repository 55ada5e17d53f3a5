//! A disk that stops or loses power after any step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::state::disk::{self, Disk};
use crate::state::journal::Journal;

/// A disk that keeps synced content and an arbitrary part of the rest. It stops after a given step.
#[derive(Clone, Default)]
struct ModelDisk {
    files: Vec<ModelFile>,
    /// The names as programs see them.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that a loss of power may undo, in order.
    pending: Vec<(PathBuf, Option<usize>)>,
    steps_left: usize,
    /// Whether syncs are ignored, as in an implementation that forgets them.
    forgets_sync: bool,
    /// The most bytes that are written in one step.
    bytes_in_a_step: usize,
}

#[derive(Clone, Default)]
struct ModelFile {
    content: Vec<u8>,
    durable: Vec<u8>,
}

impl ModelDisk {
    fn step(&mut self) -> io::Result<()> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(|| io::Error::other("stopped"))?;
        Ok(())
    }

    fn set(&mut self, path: &Path, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path.into(), file),
            None => self.names.remove(path),
        };
        self.pending.push((path.into(), file));
    }

    /// All possible contents of the directory after a loss of power at this moment.
    fn after_crash(&self) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        let mut outcomes = Vec::new();
        for kept in 0..=self.pending.len() {
            let mut names = self.durable_names.clone();
            for (path, file) in &self.pending[..kept] {
                match file {
                    Some(file) => names.insert(path.clone(), *file),
                    None => names.remove(path),
                };
            }
            // At most one file is written at any time.
            let unfinished = names.values().find(|file| self.files[**file].is_unfinished()).copied();
            let cuts = unfinished.map_or(0..=0, |file| self.files[file].cuts());
            for cut in cuts {
                let content = |file: &usize| match &self.files[*file] {
                    unwritten if Some(*file) == unfinished => unwritten.content[..cut].to_vec(),
                    written => written.durable.clone(),
                };
                outcomes.push(names.iter().map(|(path, file)| (path.clone(), content(file))).collect());
            }
        }
        outcomes
    }

    /// The content of the directory as programs see it.
    fn seen(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.names.iter().map(|(path, file)| (path.clone(), self.files[*file].content.clone())).collect()
    }
}

impl ModelFile {
    fn is_unfinished(&self) -> bool {
        self.content != self.durable
    }

    /// The possible lengths of the content; files only grow.
    fn cuts(&self) -> std::ops::RangeInclusive<usize> {
        self.durable.len()..=self.content.len()
    }
}

/// An open file of the model: each write is a step.
struct Writing(Arc<Mutex<ModelDisk>>, usize);

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        let taken = bytes.len().min(disk.bytes_in_a_step);
        disk.files[self.1].content.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Arc<Mutex<ModelDisk>> {
    type File = Writing;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        disk.set(path, None);
        Ok(())
    }

    fn create(&mut self, path: &Path) -> io::Result<Writing> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        assert!(!disk.names.contains_key(path), "a file is in the way");
        disk.files.push(ModelFile::default());
        let file = disk.files.len() - 1;
        disk.set(path, Some(file));
        Ok(Writing(Arc::clone(self), file))
    }

    fn sync(&mut self, file: &mut Writing) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        if !disk.forgets_sync {
            disk.files[file.1].durable = disk.files[file.1].content.clone();
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        let file = disk.names.get(from).copied();
        // Both names change at once: a loss of power undoes both or neither.
        disk.names.remove(from);
        disk.set(to, file);
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        disk.durable_names = disk.names.clone();
        disk.pending.clear();
        Ok(())
    }
}

/// Replaces `old` with `new` on a disk that stops after each number of steps. Returns the resulting
/// contents that are neither of them.
fn neither_old_nor_new(forgets_sync: bool) -> Vec<String> {
    let path = Path::new("/state/health.json");
    let (old, new) = (b"old".to_vec(), b"new text".to_vec());
    let mut found = Vec::new();
    for steps in 0.. {
        let disk = ModelDisk {
            files: vec![ModelFile { content: old.clone(), durable: old.clone() }],
            names: BTreeMap::from([(path.into(), 0)]),
            durable_names: BTreeMap::from([(path.into(), 0)]),
            pending: Vec::new(),
            steps_left: steps,
            forgets_sync,
            bytes_in_a_step: 1,
        };
        let mut disk = Arc::new(Mutex::new(disk));
        let done = disk::replace(&mut disk, path, &new);
        let disk = disk.lock().unwrap();
        let of_file = |mut directory: BTreeMap<PathBuf, Vec<u8>>| directory.remove(path);
        let seen = of_file(disk.seen());
        let outcomes: Vec<_> = disk.after_crash().into_iter().map(of_file).collect();
        if done.is_ok() && !outcomes.iter().all(|outcome| outcome.as_deref() == Some(&new)) {
            found.push("done, but it can be lost".to_owned());
        }
        for outcome in outcomes.into_iter().chain([seen]) {
            if outcome.as_deref().is_none_or(|text| text != old && text != new) {
                found.push(format!("after {steps} steps: {:?}", outcome.map(String::from_utf8)));
            }
        }
        if done.is_ok() {
            assert!(steps > new.len() + 3, "{steps} steps");
            return found;
        }
    }
    unreachable!()
}

#[test]
fn a_stop_or_a_loss_of_power_at_any_step_leaves_the_old_file_or_the_new_one() {
    assert_eq!(neither_old_nor_new(false), Vec::<String>::new());
    assert_ne!(neither_old_nor_new(true), Vec::<String>::new(), "the model finds a forgotten fsync");
}

/// The life of a directory: two snapshots with their journals, and five changes. All changes
/// concern one backend, and the time of its verdict (1, 2, 3, 4, 5) identifies each. Returns how
/// many were appended before the disk stopped.
fn live(disk: &mut Arc<Mutex<ModelDisk>>) -> (u64, io::Result<()>) {
    let directory = Path::new("/state");
    let mut appended = 0;
    let mut lived = || -> io::Result<()> {
        let state = |number| RememberedState { since: at(number), ..memory("a").states.remove(0) };
        let snapshot = |disk: &mut Arc<Mutex<ModelDisk>>, of, journal| {
            let memory = Memory { states: vec![state(of)], overrides: Vec::new(), ..Memory::default() };
            let text = file::encode(memory, Some(journal), at(of))?;
            disk::replace(disk, &directory.join(FILE), text.as_bytes())
        };
        let mut append = |journal: &mut Journal<Writing>, disk: &mut Arc<Mutex<ModelDisk>>, number| {
            let changes = MemoryChanges { states: vec![state(number)], ..MemoryChanges::default() };
            journal.append(disk, vec![changes], at(number))?;
            appended = number;
            Ok::<(), io::Error>(())
        };
        let mut first = Journal::begin(disk, directory, 1)?;
        append(&mut first, disk, 1)?;
        // As reported by the checker: it may or may not contain the change already.
        snapshot(disk, 0, 1)?;
        append(&mut first, disk, 2)?;
        let mut second = Journal::begin(disk, directory, 2)?;
        append(&mut second, disk, 3)?;
        // The journal grows large while its snapshot is made.
        let mut third = Journal::begin(disk, directory, 3)?;
        append(&mut third, disk, 4)?;
        snapshot(disk, 2, 2)?;
        disk.remove(&crate::state::journal::path(directory, 1))?;
        append(&mut third, disk, 5)
    };
    let lived = lived();
    (appended, lived)
}

/// The number of the last change that a directory restores, 0 for none; and the faults of its
/// files.
fn brought_back(directory: &BTreeMap<PathBuf, Vec<u8>>) -> (u64, Vec<(u64, String)>) {
    let snapshot = directory.get(Path::new("/state/health.json")).map(|bytes| file::decode(bytes));
    let snapshot = match snapshot.transpose() {
        Ok(snapshot) => snapshot,
        Err(refused) => return (0, vec![(0, refused.to_string())]),
    };
    let numbers =
        directory.keys().filter_map(|path| crate::state::journal::number(path.file_name()?.to_str()?));
    let bytes = |number| Ok(directory[&crate::state::journal::path(Path::new("/state"), number)].clone());
    let (recollection, _, faults) = recollect(snapshot, numbers, bytes);
    let states = recollection.until_now(at(100)).memory.states;
    let since = |state: &RememberedState| state.since.duration_since(at(0)).unwrap().as_secs();
    (states.first().map_or(0, since), faults)
}

/// The faults found after a stop or a loss of power at any step.
fn wrong_after_any_step(forgets_sync: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for steps_left in 0.. {
        let disk = ModelDisk { steps_left, forgets_sync, bytes_in_a_step: 16, ..ModelDisk::default() };
        let mut disk = Arc::new(Mutex::new(disk));
        let (appended, lived) = live(&mut disk);
        let disk = disk.lock().unwrap();
        for directory in disk.after_crash().into_iter().chain([disk.seen()]) {
            let (found, faults) = brought_back(&directory);
            if found < appended || found > appended + 1 || !faults.is_empty() {
                wrong.push(format!("after {steps_left} steps: {found} of {appended}, {faults:?}"));
            }
        }
        if lived.is_ok() {
            assert!(steps_left > 50, "{steps_left} steps");
            return wrong;
        }
    }
    unreachable!()
}

#[test]
fn a_stop_or_a_loss_of_power_at_any_step_loses_nothing_that_was_appended() {
    assert_eq!(wrong_after_any_step(false), Vec::<String>::new());
    assert_ne!(wrong_after_any_step(true), Vec::<String>::new(), "the model finds a forgotten fsync");
}
