//! Pages of pools, of the backends of a pool, and of services: what a [`Filter`] selects, by name.
//!
//! Unlike the whole lists of [`Documents`], a page never holds more than its items, whatever the configuration.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::admin::documents::{Documents, Failed, ListPage, member, pool};
use crate::admin::filters::Filter;
use crate::admin::pieces::{Broken, Pieces};
use crate::admin::problem::Problem;
use crate::admin::status::{self, service_name};
use crate::admin::text::TextWriter;
use crate::admin::traffic::PoolTraffic;
use crate::fleet::ServiceStatus;
use crate::pool::PoolId;
use crate::service::ServiceId;
use crate::table::Table;

impl Documents {
    /// A page of pools, with all their backends.
    pub(super) async fn pools_page(&self, filter: Filter) -> Result<ListPage, Problem> {
        let (work, key) = (self.clone(), filter.key());
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let pools = (0..).map(PoolId).zip(table.pools().iter()).map(|(id, view)| (&*view.name, id));
                let (pools, next) = page(&filter, pools.filter(|(name, _)| filter.has_name(name)));
                let listed = ListedPools { work: &work, table, pools, broken: Cell::new(None) };
                let mut writer = TextWriter::new(&work.held, is_wanted);
                write_page(&mut writer, table, ("pools", &listed), next.as_deref())
                    .map_err(|_| Failed::from(listed.broken.get()))?;
                Ok(ListPage { text: writer.finish(), next })
            })
        };
        self.pages.get(key, render).await
    }

    /// A pool with a page of its backends, with history.
    pub(super) async fn backends_page(&self, name: String, filter: Filter) -> Result<ListPage, Problem> {
        let (work, key) = (self.clone(), filter.key());
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let id = pool(table, &name)?;
                let pieces = Pieces::of_pool(&work.checker.commands, table, id)?;
                let Some((of_pool, backends)) = pieces.next_pool()? else {
                    return Err(Failed::from(pieces.broken()));
                };
                // One more than the page, to know whether there is another page.
                let mut chosen = BTreeMap::new();
                backends.for_each(|index, backend| {
                    let mut states = backend.addresses.iter().map(|address| address.standing.as_str());
                    if filter.has_name(&backend.name)
                        && filter.has_site(backend.site.as_deref())
                        && filter.has_state(&mut states)
                    {
                        chosen.insert(Arc::clone(&backend.name), (index, backend));
                        if chosen.len() > filter.limit() + 1 {
                            chosen.pop_last();
                        }
                    }
                })?;
                let (chosen, next) = page(&filter, chosen.iter().map(|(name, chosen)| (&**name, chosen)));
                let traffic = PoolTraffic::new(table, id);
                let shown = chosen
                    .into_iter()
                    .map(|(index, backend)| status::Backend::new(backend, true).with(traffic.of(*index)));
                let shown = PoolPage {
                    pool: status::Pool::new(&of_pool, shown.collect::<Vec<_>>()),
                    next: next.as_deref(),
                };
                let mut writer = TextWriter::new(&work.held, is_wanted);
                shown.serialize(&mut serde_json::Serializer::pretty(&mut writer)).map_err(|_| None)?;
                writer.write_all(b"\n").map_err(|_| None)?;
                Ok(ListPage { text: writer.finish(), next })
            })
        };
        self.pages.get(key, render).await
    }

    /// A page of services.
    pub(super) async fn services_page(&self, filter: Filter) -> Result<ListPage, Problem> {
        let (work, key) = (self.clone(), filter.key());
        let render = move |is_wanted: &dyn Fn() -> bool| {
            work.attempt(|table| {
                let services = (0..).map(ServiceId).zip(table.services().iter()).map(|(id, view)| {
                    (
                        service_name(&view.service.name.to_plain()).to_owned(),
                        (id, view, ServiceStatus::of(view, table)),
                    )
                });
                let services: BTreeMap<_, _> = services
                    .filter(|(name, (.., status))| filter.has_name(name) && filter.has_state(states(status)))
                    .collect();
                let (services, next) =
                    page(&filter, services.iter().map(|(name, service)| (&**name, service)));
                let shown = services.into_iter().map(|(id, view, status)| {
                    status::Service::from(status).with(table.answers().of_whole_service(*id, view))
                });
                let shown: Vec<_> = shown.collect();
                let mut writer = TextWriter::new(&work.held, is_wanted);
                write_page(&mut writer, table, ("services", &shown), next.as_deref()).map_err(|_| None)?;
                Ok(ListPage { text: writer.finish(), next })
            })
        };
        self.pages.get(key, render).await
    }
}

/// The states by which services are selected.
pub(super) const SERVICE_STATES: &[&str] = &["usable", "down", "fail_open"];

fn states(status: &ServiceStatus) -> impl Iterator<Item = &'static str> {
    let is = [!status.down && !status.fail_open, status.down, status.fail_open];
    SERVICE_STATES.iter().copied().zip(is).filter(|(_, is)| *is).map(|(state, _)| state)
}

/// The first of the selected items by name, and the path of the next page if there are more.
fn page<'a, T>(filter: &Filter, selected: impl Iterator<Item = (&'a str, T)>) -> (Vec<T>, Option<Arc<str>>) {
    let mut items: BTreeMap<&str, T> = selected.collect();
    let mut next = None;
    if let Some(first_left) = items.keys().nth(filter.limit()).copied() {
        items.split_off(first_left);
        next = items.keys().next_back().map(|last| filter.next(last).into());
    }
    (items.into_values().collect(), next)
}

fn write_page(
    writer: &mut TextWriter<'_>,
    table: &Table,
    (name, items): (&str, &impl Serialize),
    next: Option<&str>,
) -> std::io::Result<()> {
    writer.write_all(b"{\n")?;
    member(writer, "generation", &table.generation, ",\n")?;
    member(writer, name, items, ",\n")?;
    member(writer, "next", &next, "\n}\n")
}

/// A pool with some of its backends.
#[derive(Serialize)]
struct PoolPage<'a> {
    #[serde(flatten)]
    pool: status::Pool<'a, Vec<status::Backend<'a>>>,
    next: Option<&'a str>,
}

/// Pools that are fetched while they are written.
struct ListedPools<'a> {
    work: &'a Documents,
    table: &'a Arc<Table>,
    pools: Vec<PoolId>,
    /// Why writing failed, if it was because of a missing piece.
    broken: Cell<Option<Broken>>,
}

impl Serialize for ListedPools<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(self.pools.len()))?;
        for id in &self.pools {
            let fault = |broken| {
                self.broken.set(Some(broken));
                S::Error::custom("the next piece is missing")
            };
            let pieces = Pieces::of_pool_now(&self.work.checker.commands, self.table, *id).map_err(fault)?;
            if let Some((pool, backends)) = pieces.next_pool().map_err(fault)? {
                array
                    .serialize_element(&status::Pool::new(&pool, backends))
                    .inspect_err(|_| self.broken.set(pieces.broken()))?;
            }
        }
        array.end()
    }
}
