//! Which function serves which procedure.

use uuid::Uuid;
use virtwire_conf::FormatOptions;
use virtwire_conf::xml::utf8;
use virtwire_driver_api::{NwfilterDriver, check_flags, serve};
use virtwire_protocol::ErrorDomain;
use virtwire_protocol::remote::*;

use crate::{NWFILTER, Nwfilters, Result, bindings, handle, no_uuid, position, uuid};

serve! {
    NwfilterDriver for Nwfilters {
        connect_num_of_nwfilters = count;
        connect_list_nwfilters = names;
        connect_list_all_nwfilters = all;
        nwfilter_lookup_by_name = by_name;
        nwfilter_lookup_by_uuid = by_uuid;
        nwfilter_get_xml_desc = xml_desc;
        nwfilter_define_xml = define;
        nwfilter_define_xml_flags = define_flags;
        nwfilter_undefine = undefine;
        connect_list_all_nwfilter_bindings = bindings::all;
        nwfilter_binding_lookup_by_port_dev = bindings::by_port;
        nwfilter_binding_get_xml_desc = bindings::xml_desc;
        nwfilter_binding_create_xml = bindings::create;
        nwfilter_binding_delete = bindings::delete;
    }
}

async fn count(filters: &Nwfilters) -> Result<ConnectNumOfNwfiltersRet> {
    Ok(ConnectNumOfNwfiltersRet { num: filters.all().len() as i32 })
}

async fn names(filters: &Nwfilters, args: ConnectListNwfiltersArgs) -> Result<ConnectListNwfiltersRet> {
    let most = usize::try_from(args.maxnames).unwrap_or_default();
    let all = filters.all();
    Ok(ConnectListNwfiltersRet { names: all.iter().take(most).map(|f| f.name.as_str().into()).collect() })
}

async fn all(filters: &Nwfilters, args: ConnectListAllNwfiltersArgs) -> Result<ConnectListAllNwfiltersRet> {
    check_flags(NWFILTER, args.flags, 0, "nwfilterConnectListAllNWFilters")?;
    let found: Vec<_> = filters.all().iter().map(handle).collect();
    let ret = found.len() as u32;
    Ok(ConnectListAllNwfiltersRet { filters: if args.need_results != 0 { found } else { Vec::new() }, ret })
}

async fn by_name(filters: &Nwfilters, args: NwfilterLookupByNameArgs) -> Result<NwfilterLookupByNameRet> {
    let name = args.name.to_str_lossy();
    let found = filters.all().iter().find(|filter| filter.name == name).map(handle);
    let missing = || NWFILTER.no_nwfilter(format_args!("no nwfilter with matching name '{name}'"));
    Ok(NwfilterLookupByNameRet { nwfilter: found.ok_or_else(missing)? })
}

async fn by_uuid(filters: &Nwfilters, args: NwfilterLookupByUuidArgs) -> Result<NwfilterLookupByUuidRet> {
    let id = Uuid::from_bytes(args.uuid);
    let found = filters.all().iter().find(|filter| uuid(filter) == id).map(handle);
    Ok(NwfilterLookupByUuidRet { nwfilter: found.ok_or_else(|| no_uuid(id))? })
}

async fn xml_desc(filters: &Nwfilters, args: NwfilterGetXmlDescArgs) -> Result<NwfilterGetXmlDescRet> {
    check_flags(NWFILTER, args.flags, 0, "nwfilterGetXMLDesc")?;
    let all = filters.all();
    let filter = &all[position(&all, &args.nwfilter)?];
    Ok(NwfilterGetXmlDescRet { xml: filter.to_xml(&FormatOptions::default()).into() })
}

async fn define(filters: &Nwfilters, args: NwfilterDefineXmlArgs) -> Result<NwfilterDefineXmlRet> {
    Ok(NwfilterDefineXmlRet {
        nwfilter: filters.define(utf8(args.xml.as_bytes(), ErrorDomain::NWFILTER)?, false).await?,
    })
}

async fn define_flags(
    filters: &Nwfilters,
    args: NwfilterDefineXmlFlagsArgs,
) -> Result<NwfilterDefineXmlFlagsRet> {
    const VALIDATE: u32 = 1;
    check_flags(NWFILTER, args.flags, VALIDATE, "nwfilterDefineXMLFlags")?;
    let validate = args.flags & VALIDATE != 0;
    Ok(NwfilterDefineXmlFlagsRet {
        nwfilter: filters.define(utf8(args.xml.as_bytes(), ErrorDomain::NWFILTER)?, validate).await?,
    })
}

async fn undefine(filters: &Nwfilters, args: NwfilterUndefineArgs) -> Result<()> {
    filters.undefine(&args.nwfilter).await
}
