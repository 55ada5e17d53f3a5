//! The time and memory to load a large master file.
//!
//! ```text
//! cargo bench --bench zone_load               three made-up zones, each in its own process
//! cargo bench --bench zone_load -- FILE APEX  your own zone
//! ```
//!
//! Peak memory (`VmHWM`) is that of the whole process, and includes the bytes of the file.

use std::fs::File;
use std::io::{BufWriter, Error, Result, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use steerd::name::Name;
use steerd::zone::reader;

const HEAD: &str = "$TTL 3600\n@ SOA ns1 host 1 7200 3600 1209600 300\n@ NS ns1\n@ NS ns2\n\
                    ns1 A 192.0.2.1\nns2 A 192.0.2.2\n";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [file, apex] => measure(Path::new(file), apex),
        _ => all(),
    }
}

fn all() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("zone_load.{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let cases: [(&str, Writer); 3] =
        [("hosts", hosts), ("delegations", delegations), ("scattered", scattered)];
    for (name, write) in cases {
        let path = directory.join(name);
        let mut file = BufWriter::new(File::create(&path)?);
        file.write_all(HEAD.as_bytes())?;
        write(&mut file)?;
        file.into_inner()?.sync_all()?;
        Command::new(std::env::current_exe()?).arg(&path).arg("example").status()?;
    }
    std::fs::remove_dir_all(directory)
}

type Writer = fn(&mut BufWriter<File>) -> Result<()>;

/// A million names with one address each.
fn hosts(file: &mut BufWriter<File>) -> Result<()> {
    (0..1_000_000u32).try_for_each(|number| {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(file, "host-{number} 300 IN A 10.{b}.{c}.{d}")
    })
}

/// 300,000 delegations, each with two name servers below the delegation, so that they need glue.
fn delegations(file: &mut BufWriter<File>) -> Result<()> {
    (0..300_000u32).try_for_each(|number| {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(file, "domain{number}\tIN\tNS\tns1.domain{number}.example.")?;
        writeln!(file, "domain{number}\tIN\tNS\tns2.domain{number}.example.")?;
        writeln!(file, "ns1.domain{number}\tIN\tA\t10.{b}.{c}.{d}")?;
        writeln!(file, "ns2.domain{number}\tIN\tA\t10.{b}.{c}.{d}")
    })
}

/// A million records of 100,000 names, ten each; records of one name are never adjacent.
fn scattered(file: &mut BufWriter<File>) -> Result<()> {
    (0..1_000_000u32).try_for_each(|number| {
        let [_, b, c, d] = number.to_be_bytes();
        let owner = number % 100_000;
        match number / 500_000 {
            0 => writeln!(file, "host-{owner} A 10.{b}.{c}.{d}"),
            _ => writeln!(file, "host-{owner} TXT \"text {number}\""),
        }
    })
}

fn measure(file: &Path, apex: &str) -> Result<()> {
    let apex = Name::parse(apex).map_err(Error::other)?;
    let begin = Instant::now();
    let mut load = |path: &Path| std::fs::read(path);
    let zone = reader::read(file, &apex, &mut load).and_then(reader::ReadZone::finish);
    let took = begin.elapsed().as_secs_f64();
    let zone = zone.map_err(|faults| Error::other(format!("{}: {}", faults.len(), faults[0])))?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for display")]
    let per_second = zone.records() as f64 / took;
    println!(
        "{:12} {} records in {took:.3} s: {per_second:.0} records/s, peak {}",
        file.file_name().map(PathBuf::from).unwrap_or_default().display(),
        zone.records(),
        peak()?
    );
    Ok(())
}

fn peak() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().into())
}
