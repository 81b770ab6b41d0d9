package kubernetes

import "syscall"

// dieWithParent keeps children from outliving a test binary that was killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
