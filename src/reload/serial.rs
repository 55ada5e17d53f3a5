//! Checks the serial numbers of zones at a reload: secondaries fetch a zone only if its serial is newer
//! than theirs.

use std::collections::HashMap;

use crate::name::Name;
use crate::settings::Allowed;
use crate::zone::{Catalog, Zone};

/// Warnings about transferred zones whose serial number has decreased.
pub(super) fn warnings(before: &Catalog, after: &Catalog, transfers: &HashMap<Name, Allowed>) -> Vec<String> {
    let warning = |zone: &Zone| {
        let name = Name::from_wire(zone.apex_name()).filter(|name| transfers.contains_key(name))?;
        let old = before.find(zone.apex_name(), false).filter(|old| old.apex_name() == zone.apex_name())?;
        let (old, new) = (old.serial()?, zone.serial()?);
        goes_backwards(old, new).then(|| {
            format!(
                "the serial number of zone `{name}` goes backwards, from {old} to {new}: secondaries that have \
                 {old} keep that version; give it a number above {old}"
            )
        })
    };
    after.zones().iter().filter_map(warning).collect()
}

/// According to serial number arithmetic (RFC 1982, section 3.2). If the order is undefined, a secondary
/// may or may not fetch the zone.
fn goes_backwards(old: u32, new: u32) -> bool {
    old != new && old.wrapping_sub(new) <= 1 << 31
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::zone::reader::{self, ReadZone};

    fn catalog(serials: &[(&str, u32)]) -> Catalog {
        let zone = |(apex, serial): &(&str, u32)| {
            let text = format!("$TTL 60\n@ SOA ns.elsewhere. h {serial} 2 3 4 5\n@ NS ns.elsewhere.\n");
            let mut load = |_: &Path| Ok(text.clone().into_bytes());
            let read = reader::read(Path::new("zone"), &Name::parse(apex).unwrap(), &mut load);
            read.and_then(ReadZone::finish).unwrap()
        };
        Catalog::new(serials.iter().map(zone).collect())
    }

    #[test]
    fn a_serial_that_goes_backwards_where_transfers_are_allowed() {
        let transfers: HashMap<Name, Allowed> =
            ["a.example", "new.example"].map(|name| (Name::parse(name).unwrap(), Allowed::default())).into();
        let told = |old, new| {
            let before = catalog(&[("a.example", old), ("alone.example", old)]);
            let after = catalog(&[("a.example", new), ("alone.example", new), ("new.example", 1)]);
            warnings(&before, &after, &transfers)
        };
        assert_eq!(
            told(2_026_112_801, 2_026_112_800),
            [
                "the serial number of zone `a.example.` goes backwards, from 2026112801 to 2026112800: secondaries that \
              have 2026112801 keep that version; give it a number above 2026112801"
            ]
        );
        for (old, new, backwards) in [
            (1, 1, false),
            (1, 2, false),
            (u32::MAX, 0, false),
            (0, u32::MAX, true),
            (5, 0x8000_0004, false),
            (5, 0x8000_0005, true),
            (0x8000_0006, 5, false),
        ] {
            assert_eq!(!told(old, new).is_empty(), backwards, "{old} to {new}");
        }
    }

    /// Comparing all pairs of zones would take ten times as long.
    #[test]
    fn many_zones_take_a_moment() {
        let names: Vec<String> = (0..20_000).map(|index| format!("zone-{index}.example")).collect();
        let serials: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let transfers = names.iter().map(|name| (Name::parse(name).unwrap(), Allowed::default())).collect();
        let zones = catalog(&serials);
        let began = std::time::Instant::now();
        assert_eq!(warnings(&zones, &zones, &transfers), Vec::<String>::new());
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    }
}
