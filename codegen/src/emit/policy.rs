//! polkit's actions: one for each permission that an annotation names, and what holds where the host has no rule for it.

use std::collections::BTreeSet;

use crate::model::Model;

const HEAD: &str = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE policyconfig PUBLIC \"-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN\" \
\"http://www.freedesktop.org/standards/PolicyKit/1.0/policyconfig.dtd\">
<!-- The actions that virtwired asks about with access_drivers = [ \"polkit\" ]; the names are libvirt's. From the
     annotations of the definition files: virtwire-codegen policy -->
<policyconfig>
";

/// The file for `/usr/share/polkit-1/actions`.
pub fn render(model: &Model) -> String {
    let rules = model
        .procedures()
        .flat_map(|(_, procedure)| procedure.acl.iter().flatten().chain(&procedure.aclfilter));
    let permissions: BTreeSet<_> = rules.map(|rule| (&*rule.object, &*rule.permission)).collect();
    let actions = permissions.into_iter().map(|(kind, permission)| action(kind, permission));
    HEAD.to_owned() + &actions.collect::<String>() + "</policyconfig>\n"
}

fn action(kind: &str, permission: &str) -> String {
    let allowed = if is_looking(kind, permission) { "yes" } else { "no" };
    let [kind, permission] = [kind, permission].map(|word| word.replace('_', "-"));
    format!(
        "  <action id=\"org.libvirt.api.{kind}.{permission}\">\n    <description>{kind}: {permission}</description>\n    \
         <message>The policy of this host decides on {kind}: {permission}</message>\n    <defaults>\n      \
         <allow_any>{allowed}</allow_any>\n      <allow_inactive>{allowed}</allow_inactive>\n      \
         <allow_active>{allowed}</allow_active>\n    </defaults>\n  </action>\n"
    )
}

/// As in libvirt, everybody may look who may connect: what there is, and what it is like without its secrets.
fn is_looking(kind: &str, permission: &str) -> bool {
    matches!(permission, "getattr" | "read") || (kind == "connect" && permission.starts_with("search_"))
}
