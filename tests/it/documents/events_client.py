import json
import requests
import sseclient

def stream_events(stream_id):
    """Stream events from a specific stream"""
    url = f"http://localhost:8080/api/v1/events/stream/{stream_id}"

    response = requests.get(url, stream=True, headers={
        'Accept': 'text/event-stream',
        'Cache-Control': 'no-cache'
    })

    client = sseclient.SSEClient(response)

    for event in client.events():
        event_data = json.loads(event.data)
        print(f"Event: {event_data['type']} - {event_data['message']}")

        # Handle different event types
        if event_data['type'] == 'user_action':
            handle_user_action(event_data)
        elif event_data['type'] == 'system_alert':
            handle_system_alert(event_data)

def broadcast_event(stream_id, event_type, message, data=None):
    """Broadcast an event to a stream"""
    url = "http://localhost:8080/api/v1/events/broadcast"

    payload = {
        "stream_id": stream_id,
        "type": event_type,
        "message": message,
        "data": data or {}
    }

    response = requests.post(url, json=payload)
    return response.json()
