// Command devicemanager is the kubelet's own device manager and pod-resources server, without the
// rest of the kubelet: what tests/contracts/test_kubelet.py examines the fake one against.
//
//	devicemanager DEVICE-PLUGINS-DIRECTORY POD-RESOURCES-SOCKET
//
// It reads one JSON request from each line of its input and answers with one line:
//
//	{"op": "admit", "pod": Pod}      {"containers": {name: [base64 of ContainerAllocateResponse]}}
//	{"op": "end", "uid": UID}        {}
//	{"op": "allocatable"}            {"allocatable": {resource: count}}
//
// A request that fails is answered {"error": text}.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	_ "unsafe"

	cadvisorapi "github.com/google/cadvisor/info/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubernetes/pkg/kubelet/apis/podresources"
	"k8s.io/kubernetes/pkg/kubelet/checkpointmanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
)

// The exported constructor has the socket's path built in.
//
//go:linkname newManager k8s.io/kubernetes/pkg/kubelet/cm/devicemanager.newManagerImpl
func newManager(logger klog.Logger, socket string, topology []cadvisorapi.Node, store topologymanager.Store) (*devicemanager.ManagerImpl, error)

type request struct {
	Op  string  `json:"op"`
	Pod *v1.Pod `json:"pod"`
	UID string  `json:"uid"`
}

type answer struct {
	Error       string              `json:"error,omitempty"`
	Containers  map[string][][]byte `json:"containers,omitempty"`
	Allocatable map[string]int64    `json:"allocatable,omitempty"`
}

// node is the pods of the node, and whatever else the two servers ask the kubelet for.
type node struct {
	mutex   sync.Mutex
	pods    map[string]*v1.Pod
	manager *devicemanager.ManagerImpl
}

func (n *node) GetActivePods() []*v1.Pod {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	pods := make([]*v1.Pod, 0, len(n.pods))
	for _, pod := range n.pods {
		pods = append(pods, pod)
	}
	return pods
}

func (n *node) GetPods() []*v1.Pod                                            { return n.GetActivePods() }
func (n *node) GetPodByName(namespace, name string) (*v1.Pod, bool)           { return nil, false }
func (n *node) GetCPUs(uid, container string) []int64                         { return nil }
func (n *node) GetAllocatableCPUs() []int64                                   { return nil }
func (n *node) GetMemory(uid, name string) []*podresourcesapi.ContainerMemory { return nil }
func (n *node) GetAllocatableMemory() []*podresourcesapi.ContainerMemory      { return nil }
func (n *node) UpdateAllocatedDevices()                                       { n.manager.UpdateAllocatedDevices() }

func (n *node) GetDynamicResources(*v1.Pod, *v1.Container) []*podresourcesapi.DynamicResource {
	return nil
}

func (n *node) GetDevices(uid, container string) []*podresourcesapi.ContainerDevices {
	return listed(n.manager.GetDevices(uid, container))
}

func (n *node) GetAllocatableDevices() []*podresourcesapi.ContainerDevices {
	return listed(n.manager.GetAllocatableDevices())
}

func (n *node) AddSource(string) {}
func (n *node) AllReady() bool   { return true }

func listed(devices devicemanager.ResourceDeviceInstances) (told []*podresourcesapi.ContainerDevices) {
	for resource, ids := range devices {
		for id := range ids {
			told = append(told, &podresourcesapi.ContainerDevices{ResourceName: resource, DeviceIds: []string{id}})
		}
	}
	return told
}

func main() {
	ctx := context.Background()
	logger := klog.FromContext(ctx)
	directory, socket := os.Args[1], os.Args[2]
	manager, err := newManager(logger, filepath.Join(directory, "kubelet.sock"), nil, topologymanager.NewFakeManager())
	end(err)
	here := &node{pods: map[string]*v1.Pod{}, manager: manager}
	end(json.Unmarshal([]byte(os.Getenv("PODS")), &here.pods))
	end(manager.Start(logger, here.GetActivePods, here, containermap.NewContainerMap(), sets.New[string]()))

	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	end(err)
	server := grpc.NewServer()
	podresourcesapi.RegisterPodResourcesListerServer(server, podresources.NewV1PodResourcesServer(ctx, podresources.PodResourcesProviders{
		Pods: here, Devices: here, Cpus: here, Memory: here, DynamicResources: here,
	}))
	go server.Serve(listener)

	requests := bufio.NewScanner(os.Stdin)
	requests.Buffer(nil, 1<<20)
	answers := json.NewEncoder(os.Stdout)
	end(answers.Encode(answer{}))
	for requests.Scan() {
		var asked request
		end(json.Unmarshal(requests.Bytes(), &asked))
		end(answers.Encode(here.answered(directory, asked)))
	}
}

func (n *node) answered(directory string, asked request) (told answer) {
	switch asked.Op {
	case "admit":
		n.mutex.Lock()
		n.pods[string(asked.Pod.UID)] = asked.Pod
		n.mutex.Unlock()
		spec := &asked.Pod.Spec
		for _, containers := range [][]v1.Container{spec.InitContainers, spec.Containers} {
			for i := range containers {
				if err := n.manager.Allocate(asked.Pod, &containers[i]); err != nil {
					n.end(string(asked.Pod.UID))
					return answer{Error: err.Error()}
				}
			}
		}
		return answer{Containers: n.given(directory, string(asked.Pod.UID))}
	case "end":
		n.end(asked.UID)
	case "allocatable":
		_, allocatable, _ := n.manager.GetCapacity()
		told.Allocatable = map[string]int64{}
		for resource, count := range allocatable {
			told.Allocatable[string(resource)] = count.Value()
		}
	default:
		told.Error = "no such op: " + asked.Op
	}
	return told
}

func (n *node) end(uid string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	delete(n.pods, uid)
}

// given reads the plugins' answers where the device manager keeps them: in its checkpoint.
func (n *node) given(directory, uid string) map[string][][]byte {
	store, err := checkpointmanager.NewCheckpointManager(directory)
	end(err)
	read := checkpoint.New(nil, nil)
	end(store.GetCheckpoint("kubelet_internal_checkpoint", read))
	entries, _ := read.GetData()
	given := map[string][][]byte{}
	for _, entry := range entries {
		if entry.PodUID == uid {
			response := &pluginapi.ContainerAllocateResponse{}
			end(proto.Unmarshal(entry.AllocResp, response))
			given[entry.ContainerName] = append(given[entry.ContainerName], entry.AllocResp)
		}
	}
	return given
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
